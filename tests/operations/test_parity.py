"""Every operation and feature that the target implements computes what the reference does, in steps and in batches."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.operations.computing import (
    HIDDEN,
    VOCAB,
    Compose,
    by_steps,
    language_model,
    ragged,
    reference,
    rotary,
    values,
    weight,
)
from zoo.operations import GraphOps, Value

pytest.importorskip("torch")

HEADS, KV_HEADS, SIZE = 4, 2, 32
PACKED: dict[str, int] = {"num_heads": HEADS, "num_kv_heads": KV_HEADS, "head_dim": SIZE}


def attention(**options: Any) -> Compose:
    """Attention beside a residual, with these features."""

    def compose(ops: GraphOps, ids: Value, x: Value) -> Value:
        qkv = ops.linear("qkv", x, weight("qkv", (HEADS + 2 * KV_HEADS) * SIZE, HIDDEN))
        mixed = ops.attention("attn", qkv, scale=SIZE**-0.5, **PACKED, **options)
        return ops.add("sum", x, ops.linear("o", mixed, weight("o", HIDDEN, HEADS * SIZE)))

    return compose


def heads(q_shape: int | None, k_shape: int | None, **options: Any) -> Compose:
    """Norms of heads before attention."""

    def compose(ops: GraphOps, ids: Value, x: Value) -> Value:
        qkv = ops.linear("qkv", x, weight("qkv", (HEADS + 2 * KV_HEADS) * SIZE, HIDDEN))
        q, k = (
            None if shape is None else weight(name, shape, kind="norm")
            for name, shape in (("q", q_shape), ("k", k_shape))
        )
        qkv = ops.norm_heads("attn", qkv, q, k, 1e-5, **PACKED, **options)
        return ops.attention("attn", qkv, scale=SIZE**-0.5, rotary=rotary(SIZE // 2), **PACKED)

    return compose


def activation(function: str) -> Compose:
    return lambda ops, ids, x: ops.activation("act", ops.scale("wider", x, 3.0), function)


def learned(ops: GraphOps, ids: Value, x: Value) -> Value:
    places = ops.embedding("places", ops.positions("positions", ids), weight("places", 64, HIDDEN, kind="embedding"))
    return attention()(ops, ids, ops.add("placed", x, places))


def norms(bias: bool, summed: bool) -> Compose:
    def compose(ops: GraphOps, ids: Value, x: Value) -> Value:
        own = weight("b", HIDDEN, kind="bias") if bias else None
        if summed:
            x = ops.add("sum", x, ops.linear("up", x, weight("up", HIDDEN, HIDDEN)))
        return ops.add("again", x, ops.layer_norm("norm", x, weight("w", HIDDEN, kind="norm"), own, eps=1e-3))

    return compose


SLOPES = tuple(2.0 ** -(2 * head + 1) for head in range(HEADS))
CASES: dict[str, Compose] = {
    "plain": attention(rotary=rotary(SIZE // 2)),
    "no rotary": attention(),
    "window": attention(rotary=rotary(SIZE // 2), window=4),
    "softcap": attention(rotary=rotary(SIZE // 2), softcap=0.2),
    "softcap and window": attention(rotary=rotary(SIZE // 2), softcap=0.2, window=5),
    "sinks": attention(rotary=rotary(SIZE // 2), sinks=weight("sinks", HEADS)),
    "sinks and window": attention(rotary=rotary(SIZE // 2), sinks=weight("sinks", HEADS), window=3),
    "smooth softmax": attention(rotary=rotary(SIZE // 2), smooth=True),
    "slopes": attention(slopes=SLOPES),
    "interleaved": attention(rotary=rotary(SIZE // 2, interleaved=True)),
    "partial of 16": attention(rotary=rotary(8, width=16)),
    "partial of 12": attention(rotary=rotary(6, width=12)),
    "partial of 8": attention(rotary=rotary(4, width=8)),
    "partial of 12 interleaved": attention(rotary=rotary(6, width=12, interleaved=True)),
    "partial of 16 interleaved": attention(rotary=rotary(8, width=16, interleaved=True)),
    "learned positions": learned,
    "heads": heads(SIZE, SIZE),
    "heads, one weight each": heads(HEADS * SIZE, KV_HEADS * SIZE),
    "heads, centered": heads(SIZE, SIZE, centered=True),
    "heads, centered, one weight each": heads(HEADS * SIZE, KV_HEADS * SIZE, centered=True),
    "heads, without weight": heads(None, None),
    "layer norm": norms(bias=True, summed=False),
    "layer norm without bias": norms(bias=False, summed=False),
    "layer norm of a sum": norms(bias=True, summed=True),
    "layer norm of a sum without bias": norms(bias=False, summed=True),
    "softcap of logits": lambda ops, ids, x: ops.softcap("cap", ops.scale("wider", x, 4.0), 3.0),
    **{f"activation {name}": activation(name) for name in (
        "silu", "relu", "relu2", "gelu", "gelu_new", "gelu_fast", "gelu_pytorch_tanh", "quick_gelu", "sigmoid", "tanh",
    )},
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_it_is_computed_as_the_reference_does(name: str, tmp_path: Path) -> None:
    program = language_model(CASES[name])
    weights = values(program)
    ids = np.random.default_rng(1).integers(0, VOCAB, (2, 19))
    wanted = reference(program, weights, ids)
    scale = wanted.std()
    np.testing.assert_allclose(
        by_steps(program, weights, tmp_path, ids[:1])[0], wanted[0], atol=2e-5 * scale, rtol=1e-4
    )
    np.testing.assert_allclose(ragged(program, weights, tmp_path, ids), wanted, atol=2e-5 * scale, rtol=1e-4)


PLAIN = {name: "plain" for name, compose in CASES.items() if compose.__name__ == "compose" and "norm" not in name}
PLAIN |= {name: "heads" for name in CASES if name.startswith("heads, ")} | {"softcap of logits": "wider"}


@pytest.mark.parametrize("name", sorted(PLAIN.keys() - {"plain", "heads"}))
def test_a_feature_changes_what_is_computed(name: str) -> None:
    """A reference that ignored a feature would agree with a graph that does too."""
    compose = CASES.get(PLAIN[name], lambda ops, ids, x: ops.scale("wider", x, 4.0))
    program, plain = language_model(CASES[name]), language_model(compose)
    ids = np.random.default_rng(1).integers(0, VOCAB, (1, 19))
    weights = {**values(plain), **values(program)}
    without = reference(plain, {**weights, **values(plain)} if name.startswith("heads") else weights, ids)
    assert np.abs(reference(program, weights, ids) - without).max() > 1e-2
