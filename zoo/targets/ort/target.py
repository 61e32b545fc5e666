"""The target part ``ort``: packages for ONNX Runtime on CPU, which onnxruntime-genai opens too."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar, Literal

from zoo.contracts import OWN_ENGINE, Encoding, PackageContents, Parameter, StoredArray, View
from zoo.declarations.base import Value
from zoo.declarations.recipe import Precision, Recipe
from zoo.declarations.scheme import Scheme
from zoo.operations.program import Program
from zoo.targets.ort.encoding import ENCODING
from zoo.targets.ort.implemented import OPERATIONS
from zoo.targets.ort.placement import place
from zoo.toolchain import Probe

BATCH_GRAPH = "batch.onnx"
"""The engine's own graph over the same weights, beside ``model.onnx``, which is for everyone."""


class OrtOptions(Value):
    """What a package for ONNX Runtime can be built with."""

    accuracy_level: Literal[1, 4] = 4
    """How MatMulNBits computes: 4 quantizes activations to 8 bits a block, 1 keeps them float32 and is far slower."""


class OrtTarget:
    """ONNX Runtime on CPU (the ``Target`` protocol)."""

    Options: ClassVar[type[OrtOptions]] = OrtOptions
    precisions: ClassVar[Mapping[Precision, str]] = {"int8": "rtn", "int4": "rtn", "fp16": "float", "fp32": "float"}
    quantizer_options: ClassVar[Mapping[Precision, Mapping[str, Any]]] = {"int4": {"scale_type": "bfloat16"}}
    operations: ClassVar[Mapping[str, frozenset[str]] | None] = OPERATIONS
    emitter_version: ClassVar[int] = 3
    needs_weights: ClassVar[bool] = True
    engines: ClassVar[Mapping[str, str]] = {OWN_ENGINE: "zoo.embedding:OwnEngine"}
    head_multiple: ClassVar[int] = 16
    """GroupQueryAttention with rotary inside refuses other head sizes."""
    view: ClassVar[View] = "graph"
    rounds_activations: ClassVar[bool] = True
    encoding: ClassVar[Encoding] = ENCODING

    def check(self, recipe: Recipe) -> None:
        """Accept any recipe of a known architecture."""

    def place(
        self, recipe: Recipe, parameters: Sequence[Parameter], schemes: Mapping[str, Scheme]
    ) -> list[StoredArray]:
        """Place every stored array in ``model.onnx.data``."""
        return place(parameters, schemes)

    def headers(self, contents: PackageContents) -> Mapping[str, bytes]:
        """``model.onnx.data`` is weights alone."""
        return {}

    def files(self, contents: PackageContents) -> Iterable[tuple[str, bytes]]:
        """Make ``model.onnx``; of a model that generates, ``batch.onnx`` and ``genai_config.json`` too."""
        from zoo.targets.ort import attention, experts, norms, ops  # noqa: F401  they register how operations are emitted
        from zoo.targets.ort.emission import Emission
        from zoo.targets.ort.genai_config import genai_config
        from zoo.targets.ort.graph import Graph
        from zoo.targets.ort.inputs import MaskInputs, RaggedInputs, StepInputs, TextInputs

        recipe, program = contents.recipe, contents.program
        assert program is not None  # ``needs_weights`` says that this target takes one
        options = OrtOptions.model_validate(recipe.target.options)
        feeds: dict[str, Callable[[Graph], StepInputs]] = {"model.onnx": TextInputs}
        cached = program.generates and program.kv_values_per_token > 0
        if cached:
            feeds = {"model.onnx": MaskInputs, BATCH_GRAPH: RaggedInputs}
        for name, feed in feeds.items():
            graph = Graph(contents.arrays)
            Emission(program, graph, feed(graph), contents.schemes, options.accuracy_level).run()
            yield name, graph.serialize()
        if cached:
            yield "genai_config.json", genai_config(recipe, program)

    def probes(self, program: Program | None, precisions: Sequence[Precision]) -> Iterable[Probe]:
        """List one-node trials of the kernels that builds of these precisions use."""
        from zoo.targets.ort.probes import probes

        return probes(program, precisions, self.head_multiple)
