"""Operations computed in numpy for a few tokens of one text: (tokens, width) float32 in and out.

A build must not need torch, so what the reference computes (``zoo.operations``) is said here once more, for the
operations that a decoder between its embedding and its last norm has. A computation with others is not smoothed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from zoo.contracts import Parameter
from zoo.operations import (
    Activation,
    Add,
    Attention,
    LayerNorm,
    Multiply,
    NormHeads,
    Operation,
    RmsNorm,
    Rotary,
    Scale,
)
from zoo.operations.attention import packed

Array = NDArray[np.float32]
Weight = Callable[[Parameter], Array]
Kind = TypeVar("Kind", bound=Operation)

HALVES = (0.5, 0.5)
_SMALLEST = 1e-5
"""Channels are taken for at least this share of the largest one."""
_STEPS = 16
"""Scales are powers of 2 ** (1 / 16), so that sums in another order seldom change one."""

_COMPUTE: dict[type[Operation], Callable[[Any, Sequence[Array], Weight], NDArray[Any]]] = {}
_ACTIVATIONS = {"silu", "gelu", "gelu_new", "gelu_fast", "gelu_pytorch_tanh", "quick_gelu", "relu", "relu2"}


def supported(operation: Operation) -> bool:
    """Tell whether an operation is computed here."""
    if isinstance(operation, Activation):
        return operation.function in _ACTIVATIONS
    if isinstance(operation, Attention):
        return operation.causal and operation.sinks is None and not operation.smooth
    return type(operation) in _COMPUTE


def compute(operation: Operation, inputs: Sequence[Array], weight: Weight) -> Array:
    """Compute an operation.

    Args:
        inputs: the values that it reads, in the order of its fields.
        weight: gives the values of a weight, in its parameter's shape.
    """
    return np.asarray(_COMPUTE[type(operation)](operation, inputs, weight), np.float32)


def _computes(kind: type[Kind]) -> Callable[[Callable[[Kind, Sequence[Array], Weight], NDArray[Any]]], Any]:
    def register(function: Callable[[Kind, Sequence[Array], Weight], NDArray[Any]]) -> Any:
        _COMPUTE[kind] = function
        return function

    return register


@_computes(Add)
def _add(op: Add, inputs: Sequence[Array], weight: Weight) -> Array:
    return inputs[0] + inputs[1]


@_computes(Multiply)
def _multiply(op: Multiply, inputs: Sequence[Array], weight: Weight) -> Array:
    return inputs[0] * inputs[1]


@_computes(Scale)
def _scale(op: Scale, inputs: Sequence[Array], weight: Weight) -> Array:
    return inputs[0] * np.float32(op.factor)


@_computes(RmsNorm)
def _rms_norm(op: RmsNorm, inputs: Sequence[Array], weight: Weight) -> Array:
    return _normalized(inputs[0], op.eps, centered=False) * weight(op.weight)


@_computes(LayerNorm)
def _layer_norm(op: LayerNorm, inputs: Sequence[Array], weight: Weight) -> Array:
    x = _normalized(inputs[0], op.eps, centered=True) * weight(op.weight)
    return x if op.bias is None else x + weight(op.bias)


@_computes(NormHeads)
def _norm_heads(op: NormHeads, inputs: Sequence[Array], weight: Weight) -> Array:
    parts = _split(op, inputs[0])
    for index, scale in enumerate((op.q_weight, op.k_weight)):
        shape, heads = parts[index].shape, (len(inputs[0]), -1, op.head_dim)
        x = _normalized(parts[index].reshape(shape if op.together else heads), op.eps, centered=op.centered)
        if scale is not None:
            x = x.reshape(heads) * weight(scale).reshape(-1, op.head_dim)
        parts[index] = x.reshape(shape)
    return np.concatenate(parts, -1)


@_computes(Activation)
def _activation(op: Activation, inputs: Sequence[Array], weight: Weight) -> NDArray[np.float64]:
    x: NDArray[np.float64] = inputs[0].astype(np.float64)
    function = op.function
    if function in ("relu", "relu2"):
        x = np.maximum(x, 0)
        return x * x if function == "relu2" else x
    if function in ("silu", "quick_gelu"):
        return x * _sigmoid(x if function == "silu" else 1.702 * x)
    if function == "gelu":
        from math import erf

        share = np.vectorize(erf, otypes=[np.float64])(x / np.sqrt(2))
    else:
        share = np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))
    return np.asarray(x * 0.5 * (1 + share))


@_computes(Attention)
def _attention(op: Attention, inputs: Sequence[Array], weight: Weight) -> Array:
    length = len(inputs[0])
    # (heads, length, head_dim)
    q, k, v = (part.reshape(length, -1, op.head_dim).swapaxes(0, 1) for part in _split(op, inputs[0]))
    if op.rotary is not None:
        q, k = _turn(op.rotary, q), _turn(op.rotary, k)
    k, v = (part.repeat(op.num_heads // op.num_kv_heads, 0) for part in (k, v))
    scores = q @ k.swapaxes(1, 2) * np.float32(op.scale)
    if op.softcap is not None:
        scores = op.softcap * np.tanh(scores / op.softcap)
    steps = np.arange(length)[:, None] - np.arange(length)
    if op.slopes is not None:
        scores = scores - np.asarray(op.slopes, np.float32)[:, None, None] * np.abs(steps)
    seen = (steps >= 0) & (steps < (op.window or length))
    scores = np.where(seen, scores, -np.inf)
    shares = np.exp(scores - scores.max(-1, keepdims=True))
    shares /= shares.sum(-1, keepdims=True)
    mixed: Array = shares.astype(np.float32) @ v
    return mixed.swapaxes(0, 1).reshape(length, -1)


def _turn(rotary: Rotary, x: Array) -> Array:
    angles, width = rotary.angles(), x.shape[-1] if rotary.width is None else rotary.width
    turned = np.arange(x.shape[-2], dtype=np.float32)[:, None] * angles.frequencies
    cos, sin = np.cos(turned) * np.float32(angles.magnitude), np.sin(turned) * np.float32(angles.magnitude)
    turning, half = x[..., :width], width // 2
    first, second = (slice(0, None, 2), slice(1, None, 2)) if rotary.interleaved else (slice(half), slice(half, None))
    a, b = turning[..., first], turning[..., second]
    out = x.copy()
    out[..., :width][..., first] = a * cos - b * sin
    out[..., :width][..., second] = b * cos + a * sin
    return out


def _normalized(x: Array, eps: float, *, centered: bool) -> Array:
    if centered:
        x = x - x.mean(-1, keepdims=True)
    return np.asarray(x / np.sqrt(np.square(x).mean(-1, keepdims=True) + np.float32(eps)))


def _split(heads: Attention | NormHeads, x: Array) -> list[Array]:
    q, kv, _ = packed(heads)
    return np.split(x, [q, q + kv], -1)


def _sigmoid(x: NDArray[np.float64]) -> NDArray[np.float64]:
    with np.errstate(over="ignore"):
        return np.asarray(1 / (1 + np.exp(-x)))


def balance(
    excited: NDArray[np.float64] | None, columns: NDArray[np.float64], powers: tuple[float, float] = HALVES
) -> Array:
    """Say by how much each channel is rescaled; see ``zoo.smoothing.checkpoint``.

    Args:
        excited: the root mean square of each channel; None where only the weights count.
        columns: the root mean square of each column.
        powers: of the one and of one over the other.
    """
    logs = np.zeros(len(columns))
    for sizes, power in ((excited, powers[0]), (columns, -powers[1])):
        largest = sizes.max(initial=0.0) if sizes is not None else 0.0
        if sizes is not None and 0 < largest < np.inf:
            logs += power * np.log2(np.maximum(sizes / largest, _SMALLEST))
    return coarse(logs - logs.mean())


def coarse(logs: NDArray[np.float64]) -> Array:
    """Turn base 2 logarithms into numbers, rounded to powers of 2 ** (1 / 16)."""
    powers: Array = np.exp2(np.rint(logs * _STEPS) / _STEPS).astype(np.float32)
    return powers
