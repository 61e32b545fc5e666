"""The picture of a model follows what it computes."""

from __future__ import annotations

from typing import Any

import pytest

from zoo.catalog.outline import outline
from zoo.declarations.architecture import Architecture
from zoo.decoder import Decoder

NUMBERS: dict[str, Any] = {
    "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 5, "num_attention_heads": 4,
    "num_key_value_heads": 2, "vocab_size": 331, "max_position_embeddings": 256,
}  # fmt: skip
NORM, ATTENTION, MLP = "RMSNorm, ε 1e-06", "GQA attention", "Gated MLP"
CASES: dict[str, tuple[dict[str, Any], list[tuple[str, tuple[int, ...]]]]] = {
    "before": ({}, [(NORM, (-1,)), (ATTENTION, (0,)), ("+", (-1, 1)), (NORM, (2,)), (MLP, (3,)), ("+", (2, 4))]),
    "after": (
        {"norm_placement": "after"},
        [(ATTENTION, (-1,)), (NORM, (0,)), ("+", (-1, 1)), (MLP, (2,)), (NORM, (3,)), ("+", (2, 4))],
    ),
    "parallel": (
        {"use_parallel_residual": True, "norm": "layer", "gated_mlp": False},
        [("LayerNorm, ε 1e-06", (-1,)), (ATTENTION, (0,)), ("+", (-1, 1)), ("MLP", (0,)), ("+", (2, 3))],
    ),
    "norms of heads, windows, biases, multipliers": (
        {"qk_norm": True, "sliding_window": 16, "attention_bias": True, "residual_multiplier": 0.5},
        [
            (NORM, (-1,)), ("GQA attention, biased, window 16", (0,)), ("+", (-1, 1)), (NORM, (2,)), (MLP, (3,)),
            ("+", (2, 4)),
        ],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("layers", [1, 5])
def test_blocks_and_what_each_reads(name: str, layers: int) -> None:
    changes, wanted = CASES[name]
    found = outline(Decoder(), Architecture.model_validate({**NUMBERS, **changes, "num_hidden_layers": layers}))
    assert [(block.name, block.reads) for block in found.layer] == wanted
    assert (found.times, found.vocab_size, found.hidden_size, found.outputs) == (layers, 331, 64, 331)
    assert found.gated == ("gated_mlp" not in changes)
    assert len(found.norms) == 1
    assert not found.tied


def test_a_tied_head_is_said() -> None:
    assert outline(Decoder(), Architecture.model_validate({**NUMBERS, "tie_word_embeddings": True})).tied


CLAMPED = {"experts_bias": True, "swiglu_limit": 7.0, "fused_experts": True, "experts_in_turn": True}


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({}, [("2 of 4 experts", "gated MLPs 48 wide, silu")]),
        ({"n_shared_experts": 2}, [("2 of 4 experts", "gated MLPs 48 wide, silu"), ("Gated MLP", "96 wide, silu")]),
        (CLAMPED, [("2 of 4 experts, biased", "gated MLPs 48 wide, silu ≤ 7")]),
    ],
)
def test_experts_and_the_mlp_beside_them(changes: dict[str, Any], wanted: list[tuple[str, str]]) -> None:
    experts = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 48}
    found = outline(Decoder(), Architecture.model_validate({**NUMBERS, **experts, **changes}))
    assert [(block.name, block.note) for block in found.layer if block.kind == "mlp"] == wanted
