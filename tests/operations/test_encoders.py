"""Computations without a KV cache: whole texts, padded to one length, as vectors or scores."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.operations.computing import CONTEXT, HIDDEN, VOCAB, encoded, reference, rotary, values, weight
from zoo.operations import GraphOps, Program, Value

pytest.importorskip("torch")

HEADS, SIZE = 3, 16


def embedded(ops: GraphOps) -> Value:
    """Words, places and types, summed and normalized."""
    ids = ops.tokens(CONTEXT)
    words = ops.embedding("words", ids, weight("words", VOCAB, HIDDEN, kind="embedding"))
    places = ops.positions("positions", ids, first=2)
    x = ops.add("placed", words, ops.embedding("places", places, weight("places", CONTEXT + 2, HIDDEN)))
    types = ops.token_types("types", ids)
    x = ops.add("typed", x, ops.embedding("type_rows", types, weight("type_rows", 2, HIDDEN)))
    return ops.layer_norm("norm", x, weight("norm", HIDDEN, kind="norm"), weight("bias", HIDDEN, kind="bias"))


def layer(ops: GraphOps, x: Value, **options: Any) -> Value:
    """A layer whose norm follows the residual, as encoders have it."""
    with ops.layer(0):
        qkv = ops.linear("qkv", x, weight("qkv", 3 * HEADS * SIZE, HIDDEN))
        mixed = ops.attention(
            "attn", qkv, num_heads=HEADS, num_kv_heads=HEADS, head_dim=SIZE, scale=0.25, causal=False, **options
        )
        mixed = ops.linear("out", mixed, weight("out", HIDDEN, HEADS * SIZE))
        return ops.layer_norm("after", ops.add("sum", x, mixed), weight("after", HIDDEN, kind="norm"))


def encoder(**options: Any) -> Program:
    ops = GraphOps()
    ops.hidden_states(layer(ops, embedded(ops), **options))
    return ops.program()


CASES: dict[str, dict[str, Any]] = {
    "plain": {},
    "window": {"window": 3},
    "rotary": {"rotary": rotary(SIZE // 2)},
    "partial interleaved rotary": {"rotary": rotary(2, width=4, interleaved=True)},
}


@pytest.mark.parametrize("name", CASES)
def test_a_text_is_encoded_alone_and_beside_others(name: str, tmp_path: Path) -> None:
    program = encoder(**CASES[name])
    assert not program.generates
    assert program.kv_values_per_token == 0
    weights, rng = values(program), np.random.default_rng(2)
    ids, lengths = rng.integers(0, VOCAB, (3, 11)), (11, 6, 1)
    mask = (np.arange(11) < np.array(lengths)[:, None]).astype(np.int64)
    found = encoded(program, weights, tmp_path, ids, mask, token_type_ids=np.zeros_like(ids))
    assert found.shape == (3, 11, HIDDEN)
    for row, length in enumerate(lengths):
        wanted = reference(program, weights, ids[row : row + 1, :length])[0]
        np.testing.assert_allclose(found[row, :length], wanted, atol=1e-4)


def test_token_types_are_looked_up(tmp_path: Path) -> None:
    program = encoder()
    weights, ids, mask = values(program), np.arange(8)[None], np.ones((1, 8), np.int64)
    types = np.array([[0, 0, 0, 0, 1, 1, 1, 1]])
    first = encoded(program, weights, tmp_path, ids, mask, token_type_ids=types)
    swapped = {**weights, "type_rows": weights["type_rows"][[1, 0]]}
    second = encoded(program, swapped, tmp_path, ids, mask, token_type_ids=1 - types)
    np.testing.assert_allclose(first, second, atol=1e-6)
    assert np.abs(first - encoded(program, weights, tmp_path, ids, mask, token_type_ids=1 - types)).max() > 0.1


def test_a_classifier_scores_its_first_position(tmp_path: Path) -> None:
    ops = GraphOps()
    first = ops.first_position("pooled", layer(ops, embedded(ops)))
    pooled = ops.activation("pooler", ops.linear("dense", first, weight("dense", HIDDEN, HIDDEN)), "tanh")
    ops.scores(ops.linear("classifier", pooled, weight("classifier", 4, HIDDEN), weight("c", 4, kind="bias")))
    program = ops.program()
    weights, ids = values(program), np.random.default_rng(3).integers(0, VOCAB, (2, 9))
    mask = np.ones_like(ids)
    mask[1, 5:] = 0
    found = encoded(program, weights, tmp_path, ids, mask, token_type_ids=np.zeros_like(ids))
    assert found.shape == (2, 4)
    np.testing.assert_allclose(found[0], reference(program, weights, ids[:1])[0], atol=1e-4)
    np.testing.assert_allclose(found[1], reference(program, weights, ids[1:, :5])[0], atol=1e-4)
