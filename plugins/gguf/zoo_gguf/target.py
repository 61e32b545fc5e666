"""The target ``gguf``: one file that llama.cpp and Ollama open."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict

from zoo import (
    Architecture,
    Encoding,
    FloatScheme,
    Package,
    PackageContents,
    Parameter,
    Recipe,
    Scheme,
    StoredArray,
    View,
    ZooError,
)
from zoo_gguf import encoders, naming, vocabulary
from zoo_gguf.encoding import SIZE, Blocks, kind_of
from zoo_gguf.writing import ALIGNMENT, WrittenTensor, header

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

FILE = "model.gguf"
_FILE_TYPES = {"F32": 0, "F16": 1, "Q4_0": 2, "Q4_1": 3, "Q8_0": 7, "BF16": 32}
"""``general.file_type``, by the type of most weights (``llama_ftype``)."""


class GgufOptions(BaseModel):
    """How floats are stored."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    floats: Literal["float16", "bfloat16"] = "float16"
    """What matrices that stay floats are stored as; vectors are float32."""


class Gguf:
    """One GGUF file (the ``Target`` protocol)."""

    Options = GgufOptions
    precisions: ClassVar[dict[str, str]] = {"int8": "ggml", "int4": "rtn", "fp16": "float"}
    operations = None
    emitter_version = 1
    needs_weights = True
    engines: ClassVar[dict[str, str]] = {"llama.cpp": "zoo_gguf.llamacpp:LlamaCpp"}
    verified_by: ClassVar[str] = "llama.cpp"
    head_multiple = 1
    view: ClassVar[View] = "checkpoint"
    encoding: ClassVar[Encoding] = Blocks()
    quantizer_options: ClassVar[dict[str, dict[str, Any]]] = {"int8": {"block_size": 32}, "int4": {"block_size": 32}}

    def lacks(self, arch: Architecture) -> list[str]:
        """Name what keeps a model from being written: numbers that llama.cpp does not compute, other positions."""
        try:
            name = naming.architecture_of(arch)
        except ZooError as error:
            return [str(error)]
        kind = None if arch.rope_scaling is None else arch.rope_scaling.rope_type
        if kind in (None, "linear", "llama3") or (kind, name) in (("longrope", "phi3"), ("yarn", "deepseek2")):
            return []
        return [f"rope scaling {kind!r}, which is not written; linear, llama3, Phi-3's longrope, DeepSeek's YaRN are"]

    def read_back(self, package: Package) -> Iterator[tuple[str, NDArray[np.float32]]]:
        """Read every tensor by the package gguf."""
        from gguf import GGUFReader
        from gguf.quants import dequantize

        numbers = package.manifest.recipe.architecture
        names = naming.tensor_names(numbers)
        for tensor in GGUFReader(package.path / FILE).tensors:
            if not tensor.name.startswith("rope_f"):
                yield names.get(tensor.name, tensor.name), dequantize(tensor.data, tensor.tensor_type)

    def check(self, recipe: Recipe) -> None:
        """Refuse nothing more than ``lacks`` does."""

    def encoding_for(self, recipe: Recipe) -> Encoding:
        """Lay weights in ggml's blocks."""
        return self.encoding

    def adapt(self, recipe: Recipe, parameter: Parameter, scheme: Scheme) -> Scheme:
        """Store vectors and routers as float32, matrices that stay floats in the chosen type, scales as float16."""
        if encoders.is_encoder(recipe.architecture) and encoders.is_table(parameter):
            return FloatScheme(dtype="float32")
        if isinstance(scheme, FloatScheme):
            floats = GgufOptions.model_validate(recipe.target.options).floats
            return FloatScheme(dtype="float32" if len(parameter.shape) == 1 or parameter.kind == "router" else floats)
        if parameter.shape[-1] % SIZE:
            kept = json.dumps({parameter.role or parameter.name: "fp16"})
            raise ZooError(
                f"target 'gguf': blocks of {SIZE} do not divide the {parameter.shape[-1]} columns of {parameter.name}; "
                f"keep it as floats: --quantizer-option 'keep={kept}'"
            )
        if scheme.bits == 8 and recipe.precision == "int4":
            # ggml has no longer 8-bit blocks, nor any with zero points; its symmetric ones lose as little.
            scheme = scheme.model_copy(update={"block_size": SIZE, "symmetric": True})
        kind_of(scheme)
        return scheme.model_copy(update={"scale_type": "float16"})

    def rearranged(self, recipe: Recipe, parameters: Sequence[Parameter]) -> list[Parameter]:
        """Order rows as llama.cpp wants them, with q, k and v apart and experts together."""
        return list(naming.rearranged(parameters, recipe.architecture))

    def place(
        self, recipe: Recipe, parameters: Sequence[Parameter], schemes: Mapping[str, Scheme]
    ) -> Iterator[StoredArray]:
        """Lay tensors one behind the other, aligned."""
        at = 0
        for parameter in parameters:
            for name, layout in self.encoding.arrays(schemes[parameter.name], parameter.shape).items():
                yield StoredArray(parameter, name, layout.dtype, layout.shape, at, layout.nbytes, FILE)
                at += -(-layout.nbytes // ALIGNMENT) * ALIGNMENT

    def headers(self, contents: PackageContents) -> Mapping[str, bytes]:
        """Make the file's header; where positions are stretched by frequency, the factors lie first among the data."""
        recipe, first, tensors = contents.recipe, b"", list[WrittenTensor]()
        for name, factors in _factors(contents.recipe).items():
            tensors.append(WrittenTensor(f"{name}.weight", "F32", (len(factors),), len(first)))
            first += struct.pack(f"<{len(factors)}f", *factors)
            first += bytes(-len(first) % ALIGNMENT)
        names = {name: short for short, name in naming.tensor_names(recipe.architecture).items()}
        for array in contents.arrays:
            parameter = array.parameter
            if parameter.name not in names:
                raise ZooError(f"target 'gguf': llama.cpp has no name for the tensor {parameter.name!r}")
            kind = kind_of(contents.schemes[parameter.name])
            tensors.append(WrittenTensor(names[parameter.name], kind, parameter.shape, len(first) + array.offset))
        return {FILE: header(_metadata(contents), tensors) + first}

    def files(self, contents: PackageContents) -> Iterator[tuple[str, bytes]]:
        """Make ``Modelfile``, which Ollama reads: ``ollama create NAME -f Modelfile``."""
        lines = [f"FROM ./{FILE}", f"PARAMETER num_ctx {min(4096, contents.recipe.architecture.context_length)}"]
        yield "Modelfile", ("\n".join(lines) + "\n").encode()


def _metadata(contents: PackageContents) -> dict[str, Any]:
    recipe, numbers = contents.recipe, contents.recipe.architecture
    name = naming.architecture_of(numbers)
    kinds = [kind_of(contents.schemes[array.parameter.name]) for array in contents.arrays]
    layer = [kind for kind, array in zip(kinds, contents.arrays, strict=True) if array.parameter.kind == "linear"]
    scaling = numbers.rope_scaling
    encoder = encoders.is_encoder(numbers)
    own = encoders.numbers_of(numbers, contents.companions) if encoder else naming.numbers_of(numbers)
    if scaling is not None and scaling.rope_type == "linear":
        own |= {"rope.scaling.type": "linear", "rope.scaling.factor": float(scaling.factor)}
    elif scaling is not None and scaling.rope_type == "longrope":
        own |= {"rope.scaling.type": "longrope", "rope.scaling.attn_factor": scaling.magnitude}
        own["rope.scaling.original_context_length"] = scaling.original_max_position_embeddings
    elif scaling is not None and scaling.rope_type == "yarn":
        own |= naming.yarn(scaling)
    stated = {"general.architecture": name, "general.type": "model", "general.name": recipe.model}
    stated |= {"general.file_type": _FILE_TYPES[max(set(layer), key=layer.count)] if layer else 0}
    stated |= {"general.quantization_version": 2, "general.license": recipe.licence.id}
    keys = encoders.tokenizer_keys if encoder else vocabulary.keys
    return stated | {f"{name}.{key}": value for key, value in own.items()} | keys(contents.companions, recipe)


def _factors(recipe: Recipe) -> dict[str, Sequence[float]]:
    """Compute what each rotary frequency is divided by, by the tensor's name; none where all are as they were.

    Source: transformers' ``_compute_llama3_parameters``; llama.cpp, ``get_rope_factors``.
    """
    numbers, scaling = recipe.architecture, recipe.architecture.rope_scaling
    if scaling is not None and scaling.rope_type == "longrope":
        return {"rope_factors_long": scaling.long_factor or (), "rope_factors_short": scaling.short_factor or ()}
    if scaling is None or scaling.rope_type != "llama3":
        return {}
    low, high = scaling.low_freq_factor or 1.0, scaling.high_freq_factor or 4.0
    original = scaling.original_max_position_embeddings or 8192
    factors = []
    for index in range(numbers.head_dim // 2):
        wave = 2 * math.pi * numbers.rope_theta ** (2 * index / numbers.head_dim)
        share = min(max((original / wave - low) / (high - low), 0.0), 1.0)
        factors.append(1 / ((1 - share) / scaling.factor + share))
    return {"rope_freqs": factors}
