"""An architecture of a plugin, composed of operations: what the core does with it without knowing it.

The architecture is the one of docs/guides/quirk.md, whose own test runs the kit over it.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer

from tests.docs.blocks import blocks
from zoo.contracts import Parameter, RowSlice
from zoo.declarations.architecture import Architecture
from zoo.declarations.family import Family
from zoo.errors import ZooError
from zoo.operations import Operation, Value
from zoo.plugins import host
from zoo.registry import DeclaredFamily, Registry
from zoo.stages import pipeline
from zoo.stages.request import Request
from zoo.testing.checkpoint import write_random, write_tokenizer
from zoo.verify.candidate import Candidate
from zoo.verify.references import all_logits, find_reference
from zoo.yamlfile import Document

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "quirk.md"
NUMBERS: dict[str, Any] = {
    "hidden_size": 64, "intermediate_size": 112, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 24, "vocab_size": 331, "max_position_embeddings": 128, "hidden_act": "gelu",
    "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
}  # fmt: skip


def load(name: str, path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, name, module)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def guide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The files of the guide, its module imported."""
    for block in blocks(GUIDE):
        if block.file is not None:
            (tmp_path / block.file).parent.mkdir(exist_ok=True)
            (tmp_path / block.file).write_text(block.text, encoding="utf-8")
    load("zoo_parallel", tmp_path / "zoo_parallel" / "__init__.py", monkeypatch)
    return tmp_path


@pytest.fixture
def registry(guide: Path) -> Registry:
    """What is installed, and the guide's plugin."""
    path, own = guide / "zoo_parallel" / "parallel.yaml", host().registry
    family = DeclaredFamily(Document(path).validate(Family), "parallel", path)
    return replace(
        own,
        architectures={**own.architectures, "parallel": "zoo_parallel:Parallel"},
        families={**own.families, "parallel": family},
    )


@pytest.fixture
def checkpoint(guide: Path, registry: Registry) -> Path:
    folder = guide / "checkpoint"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"model_type": "parallel", **NUMBERS, "bos_token_id": 1}))
    write_random(folder, registry.architecture("parallel").tensors(Architecture(type="parallel", **NUMBERS)), seed=3)
    write_tokenizer(folder)
    return folder


def built(registry: Registry, checkpoint: Path, precision: str, output: Path, **request: Any) -> Any:
    pinned = pipeline.pin(registry, Request(str(checkpoint), precision, **request))
    return pipeline.build(registry, pinned, output, threads=1).package, pinned


def every_logit(package: Any, ids: list[int]) -> np.ndarray:
    candidate = Candidate(package.path)
    candidate.begin([np.array(ids)])
    for layer in range(candidate.num_layers):
        candidate.step(layer, {})
    return candidate.logits(0, 0, len(ids))


def test_it_computes_what_the_guides_own_reference_does(
    registry: Registry, checkpoint: Path, guide: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The package, and the reference that `zoo verify` makes of the operations, against plain torch."""
    ids = np.random.default_rng(0).integers(3, 331, 40).tolist()
    wanted = load("test_parallel", guide / "test_parallel.py", monkeypatch).REFERENCE(checkpoint, ids)
    package, pinned = built(registry, checkpoint, "fp32", guide / "fp32")
    np.testing.assert_allclose(every_logit(package, ids), wanted, atol=1e-3)
    part = registry.architecture("parallel")
    reference = find_reference(pinned.resolved.checkpoint, part, pinned.recipe.architecture)
    assert reference.name == "its own operations in torch"
    np.testing.assert_allclose(all_logits(reference, ids), wanted, atol=1e-3)


def test_it_is_calibrated(registry: Registry, checkpoint: Path, guide: Path) -> None:
    """GPTQ and AWQ's folding follow the program: closer to fp32 than rounding to nearest, on what they saw."""
    rng, texts = np.random.default_rng(0), guide / "texts.txt"
    lines = ["".join(map(chr, rng.integers(33, 127, 60))) for _ in range(200)]
    texts.write_text("\n".join(lines))
    calibration = {"calibration": str(texts), "samples": 64, "sequence_length": 48}
    ids = Tokenizer.from_file(str(checkpoint / "tokenizer.json")).encode("".join(lines[:2])).ids
    exact = every_logit(built(registry, checkpoint, "fp32", guide / "fp32")[0], ids)
    lost = {}
    for quantizer, more in (("rtn", {"smoothing": "none"}), ("gptq", calibration), ("awq", calibration)):
        package, _ = built(registry, checkpoint, "int4", guide / quantizer, quantizer=quantizer, **more)
        lost[quantizer] = float(np.sqrt(np.mean((every_logit(package, ids) - exact) ** 2)) / exact.std())
    assert lost["gptq"] < 0.9 * lost["rtn"], lost
    assert lost["awq"] < 1.05 * lost["rtn"], lost


def changed(registry: Registry, **members: Any) -> Registry:
    """The guide's architecture with other members."""
    module: Any = sys.modules["zoo_parallel"]
    name = "".join(members)
    setattr(module, name, type(name, (module.Parallel,), members))
    return replace(registry, architectures={**registry.architectures, "parallel": f"zoo_parallel:{name}"})


def test_what_a_target_lacks_is_named(registry: Registry, checkpoint: Path) -> None:
    @dataclass(frozen=True, slots=True, eq=False)
    class Convolution(Operation):
        x: Value

    def forward(self: Any, arch: Any, ops: Any, head_multiple: int = 1) -> None:
        embed, *_, head = self.outside(arch)
        x = ops.add_operation("conv", Convolution(ops.embedding("embed", ops.tokens(64), embed)))
        ops.logits(ops.linear("/head", ops.activation("act", x, "mish"), head))

    with pytest.raises(ZooError, match=r"^target 'ort' does not support: convolution, activation\(mish\)$"):
        pipeline.pin(changed(registry, forward=forward), Request(str(checkpoint), "int8"))


def test_weights_that_do_not_fit_the_computation_are_named(registry: Registry, checkpoint: Path, guide: Path) -> None:
    parallel: Any = sys.modules["zoo_parallel"].Parallel

    def fewer(self: Any, arch: Any, head_multiple: int = 1) -> list[Parameter]:
        return [one for one in parallel.parameters(self, arch, head_multiple) if one.role != "mlp.up"]

    def more(self: Any, arch: Any, head_multiple: int = 1) -> list[Parameter]:
        return [*parallel.parameters(self, arch, head_multiple), Parameter("extra", "norm", (RowSlice("extra", (3,)),))]

    with pytest.raises(ZooError, match=r"mlp/up uses 'layers.0.mlp.up', which its parameters\(\) does not list"):
        built(changed(registry, parameters=fewer, ignored=lambda *_: True), checkpoint, "fp32", guide / "a")
    write_random(checkpoint, registry.architecture("parallel").tensors(Architecture(type="parallel", **NUMBERS))
                 | {"extra": (3,)}, seed=3)  # fmt: skip
    with pytest.raises(ZooError, match=r"forward\(\) uses 'extra' nowhere"):
        built(changed(registry, parameters=more), checkpoint, "fp32", guide / "b")


def test_a_config_that_states_no_size_is_one_line(registry: Registry, checkpoint: Path) -> None:
    (checkpoint / "config.json").write_text(json.dumps({"model_type": "parallel", **NUMBERS, "hidden_size": "wide"}))
    with pytest.raises(ZooError, match=r"^config\.json: hidden_size: [^\n]*$"):
        pipeline.pin(registry, Request(str(checkpoint), "int8"))
