"""Experts in a calibrated build: each has Hessians of its own tokens, and one at a time is in memory."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.calibration.test_stream import TOKENS, contents, logits_of, make
from tests.checkpoints import make_of_type
from zoo.calibration.stream import CalibratedStream
from zoo.errors import ZooError
from zoo.plugins import host
from zoo.stages.build import build
from zoo.stages.resolve import Request, resolve

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

FEW = {"num_local_experts": 6, "num_experts_per_tok": 2}
KINDS: dict[str, dict[str, Any]] = {
    "mixtral": FEW,
    "qwen3_moe": {"num_experts": 6, "num_experts_per_tok": 2, "moe_intermediate_size": 48, "head_dim": 16},
}


def prepared(folder: Path, quantizer: str = "gptq", target: str = "ort") -> Any:
    """A recipe of int4 with its checkpoint; what is calibrated is pinned by hand."""
    pinned: dict[str, Any] = {"calibration": "tokens.txt", "samples": 6, "sequence_length": 40}
    more = pinned if quantizer == "gptq" else {}
    options = {"block_size": 16} if target == "ort" else {}
    request = Request(
        str(folder), "int4", quantizer=quantizer, quantizer_options=options, target=target, target_options={}, **more
    )
    return resolve(host().registry, request)


def divergence(wanted: Any, found: np.ndarray) -> float:
    """The mean KL(wanted ‖ found) of all positions, nats."""
    wanted, log = wanted.log_softmax(-1), torch.from_numpy(found).log_softmax(-1)
    return float((wanted.exp() * (wanted - log)).sum(-1).mean())


@pytest.mark.parametrize("kind", KINDS)
def test_they_lose_less_than_by_rounding(kind: str, tmp_path: Path) -> None:
    model = make_of_type(tmp_path / "model", kind, num_hidden_layers=2, initializer_range=0.1, **KINDS[kind])
    with torch.no_grad():
        wanted = model(torch.from_numpy(TOKENS.astype(np.int64))).logits
    lost = {}
    for way in ("rtn", "gptq", "original"):
        resolved = prepared(tmp_path / "model", "rtn" if way == "rtn" else "gptq")
        if way == "original":
            pin = resolved.recipe.calibration.model_copy(update={"activations": "original"})
            resolved = replace(resolved, recipe=resolved.recipe.model_copy(update={"calibration": pin}))
        package = make(resolved, tmp_path / way).path
        lost[way] = divergence(wanted, np.stack([logits_of(package, one.astype(np.int64)) for one in TOKENS]))
    assert max(lost["gptq"], lost["original"]) < 0.8 * lost["rtn"], lost
    assert lost["gptq"] != lost["original"]


def without_tokens(folder: Path) -> Any:
    """A model whose third expert nothing chooses: one of the first two always scores above its zero."""
    from safetensors.torch import load_file, save_file

    numbers = {"num_local_experts": 3, "num_experts_per_tok": 1, "num_hidden_layers": 1}
    model = make_of_type(folder, "mixtral", **numbers)
    tensors = load_file(folder / "model.safetensors")
    router = tensors["model.layers.0.block_sparse_moe.gate.weight"]
    router[1], router[2] = -router[0], 0
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return model


def test_an_expert_that_no_token_chose_is_calibrated_with_those_nearest_to_it(tmp_path: Path) -> None:
    without_tokens(tmp_path / "model")
    said: list[str] = []
    resolved = prepared(tmp_path / "model")
    package = build(
        resolved.recipe, resolved.checkpoint, tmp_path / "package", host().registry, calibration=TOKENS,
        warn=said.append,
    )  # fmt: skip
    note = "1 experts were chosen by fewer than 64 of 240 calibration tokens (expert 2 of layer 0 by 0)"
    assert [one.startswith(note) for one in package.manifest.notes] == [True]
    assert package.manifest.notes[0] in said


@pytest.mark.parametrize("target", ["ort", "vllm"])
def test_interrupted_builds_go_on_to_the_same_bytes(target: str, tmp_path: Path, monkeypatch: Any) -> None:
    """The second layer's experts are interrupted; the first's are read back, and its tokens sent through them again."""
    make_of_type(tmp_path / "model", "mixtral", hidden_size=128, intermediate_size=128, **FEW)
    resolved, original = prepared(tmp_path / "model", target=target), CalibratedStream._store
    stored: list[str] = []
    plug = 0

    def store(self: Any, placed: Any, activations: Any, matrix: Any) -> None:
        stored.append(placed.parameter.name)
        if len(stored) == plug:
            raise ZooError("the test pulls the plug")
        original(self, placed, activations, matrix)

    monkeypatch.setattr(CalibratedStream, "_store", store)
    reference = contents(make(resolved, tmp_path / "reference").path)
    plug = max(index for index, name in enumerate(stored) if "experts" in name) - 4
    assert ".layers.1." in stored[plug]
    stored.clear()
    with pytest.raises(ZooError, match="pulls the plug"):
        make(resolved, tmp_path / "package")
    stored.clear()
    plug = 0
    found = contents(make(resolved, tmp_path / "package").path)
    assert stored
    assert not any(".layers.0." in name for name in stored)
    assert {**found, "zoo.json": ""} == {**reference, "zoo.json": ""}


def test_memory_does_not_grow_with_their_number(tmp_path: Path) -> None:
    most = {}
    for count in (4, 16):
        numbers = {"num_local_experts": count, "num_experts_per_tok": 2, "num_hidden_layers": 1}
        make_of_type(tmp_path / f"{count}", "mixtral", hidden_size=32, intermediate_size=512, **numbers)
        resolved = prepared(tmp_path / f"{count}")
        tracemalloc.start()
        make(resolved, tmp_path / f"{count}-package")
        most[count] = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert most[16] < 1.25 * most[4], most


def test_a_recipe_says_that_experts_are_calibrated_apart(tmp_path: Path) -> None:
    make_of_type(tmp_path / "mixture", "mixtral", **FEW)
    make_of_type(tmp_path / "dense", "mistral")
    mixture, dense = (prepared(tmp_path / name).recipe for name in ("mixture", "dense"))
    assert mixture.calibration is not None
    assert dense.calibration is not None
    assert (mixture.calibration.experts, dense.calibration.experts) == ("apart", "together")
    together = mixture.calibration.model_copy(update={"experts": "together"})
    assert mixture.model_copy(update={"calibration": together}).hash != mixture.hash
