"""Operations with a matrix of weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from zoo.contracts.weights import Parameter
from zoo.operations.operation import Operation, Reference, Value


@dataclass(frozen=True, slots=True, eq=False)
class Embedding(Operation):
    """Rows of ``weight`` by id: int64 (batch, sequence) → (batch, sequence, width)."""

    ids: Value
    weight: Parameter
    channels: Parameter | None = None
    """(width,): multiplied into every row."""

    def features(self) -> frozenset[str]:
        return frozenset() if self.channels is None else frozenset({"channels"})

    def width(self, of: Callable[[Value], int]) -> int:
        return self.weight.shape[-1]

    def compute(self, run: Reference) -> Any:
        rows = run.torch.nn.functional.embedding(run.value(self.ids), run.weight(self.weight))
        return rows if self.channels is None else rows * run.weight(self.channels)


@dataclass(frozen=True, slots=True, eq=False)
class Linear(Operation):
    """x · weightᵀ + bias."""

    x: Value
    weight: Parameter
    bias: Parameter | None = None

    def width(self, of: Callable[[Value], int]) -> int:
        return self.weight.shape[0]

    def compute(self, run: Reference) -> Any:
        bias = run.weight(self.bias) if self.bias is not None else None
        return run.torch.nn.functional.linear(run.value(self.x), run.weight(self.weight), bias)
