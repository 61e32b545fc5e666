"""Places in a computation where channels can be rescaled without changing what it computes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from zoo.calibration.program import Segment
from zoo.contracts import FoldLink, Parameter
from zoo.operations import Attention, LayerNorm, Linear, Multiply, NormHeads, RmsNorm, Value


def fold_links(segment: Segment) -> list[FoldLink]:
    """List where a scale can be taken from the columns of linears and given to what makes these channels."""
    inputs = {
        step.operation.weight.name: step.operation.x for step in segment.steps if isinstance(step.operation, Linear)
    }
    links = (_link(segment, inputs[group[0].name], group) for group in segment.groups)
    return [link for link in links if link is not None]


def _link(segment: Segment, value: Value, consumers: Sequence[Parameter]) -> FoldLink | None:
    readers = segment.readers(value)
    if value == segment.exit or any(not isinstance(step.operation, Linear) for step in readers):
        return None
    size = consumers[0].shape[-1]
    step = segment.producer(value)
    maker = step.operation if step is not None else None
    if isinstance(maker, RmsNorm):
        return FoldLink(maker.weight, None, np.arange(size), tuple(consumers))
    if isinstance(maker, LayerNorm):
        return FoldLink(maker.weight, maker.bias, np.arange(size), tuple(consumers))
    if isinstance(maker, Multiply):
        for factor in (maker.b, maker.a):
            linear = _sole_linear(segment, factor)
            if linear is not None:
                return FoldLink(linear.weight, linear.bias, np.arange(size), tuple(consumers))
    if isinstance(maker, Attention):
        packed = maker.qkv
        before = segment.producer(packed)
        if before is not None and isinstance(before.operation, NormHeads):  # v goes through it as it is
            packed = before.operation.qkv
        linear = _sole_linear(segment, packed)
        if linear is not None:
            return FoldLink(linear.weight, linear.bias, _value_rows(maker), tuple(consumers))
    return None


def _sole_linear(segment: Segment, value: Value) -> Linear | None:
    """The linear that makes a value which nothing but one operation reads."""
    step = segment.producer(value)
    if step is None or not isinstance(step.operation, Linear) or len(segment.readers(value)) != 1:
        return None
    return step.operation


def _value_rows(attention: Attention) -> NDArray[np.intp]:
    """Say which row of the packed (q, k, v) projection makes each channel of the attention's output.

    Output head h reads values of KV head h // group, so the channels of a group share their row.
    """
    heads, kv, size = attention.num_heads, attention.num_kv_heads, attention.head_dim
    head = np.arange(heads) // (heads // kv)
    rows: NDArray[np.intp] = ((heads + kv + head)[:, None] * size + np.arange(size)).reshape(-1)
    return rows
