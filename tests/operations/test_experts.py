"""Mixture of experts: from a checkpoint's separate experts to the kernel, floats and blocks."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from zoo.contracts import Parameter, RowSlice, interleaved, stacked
from zoo.declarations.architecture import Architecture
from zoo.errors import ZooError
from zoo.operations import GraphOps
from zoo.plugins import host
from zoo.stages import pipeline
from zoo.stages.request import Request
from zoo.testing.checkpoint import write_random
from zoo.verify.candidate import Candidate
from zoo.verify.references import all_logits, find_reference

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

NUMBERS: dict[str, Any] = {
    "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4,
    "vocab_size": 331, "max_position_embeddings": 64, "options": {"experts": 5, "chosen": 2, "normalized": True},
}  # fmt: skip


class Mixed:
    """An embedding, layers of experts beside residuals, a head."""

    activations = frozenset({"silu"})

    def read_config(self, config: Any, implied: Any = ()) -> Architecture:
        return Architecture.from_config(config, dict(implied), type="mixed")

    def tensors(self, arch: Architecture) -> dict[str, tuple[int, ...]]:
        return {one.tensor: one.tensor_shape for weight in self.parameters(arch) for one in weight.slices}

    def parameter_count(self, arch: Architecture) -> int:
        return sum(weight.size for weight in self.parameters(arch))

    def ignored(self, arch: Architecture, name: str) -> bool:
        return False

    def parameters(self, arch: Architecture, head_multiple: int = 1) -> list[Parameter]:
        layers = [one for index in range(arch.num_hidden_layers) for one in self.layer(arch, index).values()]
        return [self.outside(arch, "embed"), *layers, self.outside(arch, "head")]

    def outside(self, arch: Architecture, name: str) -> Parameter:
        kind: Any = "embedding" if name == "embed" else "linear"
        return Parameter(name, kind, (RowSlice(name, (arch.vocab_size, arch.hidden_size)),), role=name)

    def layer(self, arch: Architecture, index: int) -> dict[str, Parameter]:
        hidden, wide, count = arch.hidden_size, arch.intermediate_size, int(arch.options["experts"])  # type: ignore[arg-type]
        at = f"layers.{index}"
        ups, downs = [], []
        for expert in range(count):
            gate, up = (RowSlice(f"{at}.{expert}.{one}", (wide, hidden)) for one in ("gate", "up"))
            ups += interleaved(gate, up, at=2 * wide * expert)
            downs.append(RowSlice(f"{at}.{expert}.down", (hidden, wide)))
        return {
            "norm": Parameter(f"{at}.norm", "norm", (RowSlice(f"{at}.norm", (hidden,)),), index, "norm"),
            "router": Parameter(f"{at}.router", "linear", (RowSlice(f"{at}.router", (count, hidden)),), index),
            "gate_up": Parameter(f"{at}.gate_up", "linear", tuple(ups), index, "gate_up", experts=count),
            "down": Parameter(f"{at}.down", "linear", stacked(*downs), index, "down", experts=count),
        }  # fmt: skip

    def forward(self, arch: Architecture, ops: GraphOps, head_multiple: int = 1) -> None:
        x = ops.embedding("embed", ops.tokens(64), self.outside(arch, "embed"))
        for index in range(arch.num_hidden_layers):
            weights = self.layer(arch, index)
            with ops.layer(index):
                y = ops.rms_norm("norm", x, weights["norm"], 1e-6)
                scores = ops.linear("router", y, weights["router"])
                y = ops.experts(
                    "experts",
                    y,
                    scores,
                    weights["gate_up"],
                    weights["down"],
                    int(arch.options["chosen"]),  # type: ignore[arg-type]
                    normalized=bool(arch.options["normalized"]),
                )
                x = ops.add("sum", x, y)
        ops.logits(ops.linear("/head", ops.last_positions("last", x), self.outside(arch, "head")))


def by_hand(folder: Path, ids: list[int], chosen: int, *, normalized: bool) -> np.ndarray:
    """The same in plain torch, one token at a time."""
    from safetensors.torch import load_file

    w, rows = load_file(folder / "model.safetensors"), []
    for token in ids:
        x = w["embed"][token]
        for layer in range(2):
            at = f"layers.{layer}"
            y = x * torch.rsqrt(x.square().mean() + 1e-6) * w[f"{at}.norm"]
            likely = (w[f"{at}.router"] @ y).softmax(0)
            best = likely.argsort(descending=True)[:chosen]
            total = likely[best].sum() if normalized else 1.0
            for expert in best.tolist():
                gate, up = w[f"{at}.{expert}.gate"] @ y, w[f"{at}.{expert}.up"] @ y
                x = x + likely[expert] / total * (w[f"{at}.{expert}.down"] @ (gate * gate.sigmoid() * up))
        rows.append(w["head"] @ x)
    return torch.stack(rows).numpy()


def build(tmp_path: Path, precision: str, options: dict[str, Any], **request: Any) -> tuple[Any, Any, Path]:
    """(package, what was pinned, checkpoint)"""
    registry = replace(host().registry, architectures={"mixed": "tests.operations.test_experts:Mixed"})
    family = next(iter(registry.families.values()))
    fields: Any = family.family.architecture
    claiming = family.family.model_copy(update={
        "claims": {"mixed": type(fields)()}, "architecture": fields.model_copy(update={"type": "mixed"}), "models": (),
    })  # fmt: skip
    registry = replace(registry, families={"mixed": replace(family, family=claiming)})
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    numbers = {**NUMBERS, "options": {**NUMBERS["options"], **options}}
    (folder / "config.json").write_text(json.dumps({"model_type": "mixed", **numbers}))
    write_random(folder, Mixed().tensors(Architecture(type="mixed", **numbers)), seed=5)
    pinned = pipeline.pin(registry, Request(str(folder), precision, **request))
    return pipeline.build(registry, pinned, tmp_path / "package", threads=1).package, pinned, folder


def logits(package: Any, ids: list[int]) -> np.ndarray:
    candidate = Candidate(package.path)
    candidate.begin([np.array(ids)])
    for layer in range(candidate.num_layers):
        candidate.step(layer, {})
    return candidate.logits(0, 0, len(ids))


IDS = np.random.default_rng(0).integers(0, 331, 30).tolist()


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8", "int4"])
@pytest.mark.parametrize("options", [{}, {"chosen": 1}, {"chosen": 5}, {"normalized": False}], ids=str)
def test_tokens_go_through_the_experts_that_the_router_chooses(
    precision: str, options: dict[str, Any], tmp_path: Path
) -> None:
    more = {"quantizer_options": {"block_size": 32}} if precision.startswith("int") else {}
    stated = {**NUMBERS["options"], **options}
    package, pinned, folder = build(tmp_path, precision, options, **more)
    wanted = by_hand(folder, IDS, stated["chosen"], normalized=stated["normalized"])
    reference = find_reference(pinned.resolved.checkpoint, Mixed(), pinned.recipe.architecture)
    np.testing.assert_allclose(all_logits(reference, IDS), wanted, atol=1e-3)
    # The median: where weights are rounded a router now and then chooses another expert for a token.
    apart = float(np.median(np.sqrt(np.mean((logits(package, IDS) - wanted) ** 2, -1)) / wanted.std()))
    assert apart < {"fp32": 1e-5, "fp16": 2e-3, "int8": 0.05, "int4": 0.45}[precision], apart


def test_blocks_that_the_kernel_does_not_take_are_named(tmp_path: Path) -> None:
    with pytest.raises(
        ZooError, match=r"QMoE wants whole blocks of one size.* 64 wide in blocks of 64.* 96 in blocks of 32"
    ):
        build(tmp_path, "int8", {}, quantizer_options={"block_size": 128})


def test_the_picture_shows_experts() -> None:
    from zoo.catalog.outline import outline

    found = outline(Mixed(), Architecture(type="mixed", **NUMBERS)).layer
    assert [(one.name, one.reads) for one in found[1:]] == [("2 of 5 experts", (0,)), ("+", (-1, 1))]
