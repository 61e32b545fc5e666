"""Normalization over the last axis."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from zoo.contracts.weights import Parameter
from zoo.operations.operation import Operation, Reference, Value


@dataclass(frozen=True, slots=True, eq=False)
class RmsNorm(Operation):
    """x / sqrt(mean(x²) + eps) · weight; Zhang and Sennrich, arXiv 1910.07467."""

    x: Value
    weight: Parameter
    eps: float

    def compute(self, run: Reference) -> Any:
        return normalized(run.torch, run.value(self.x), self.eps, centered=False) * run.weight(self.weight)


@dataclass(frozen=True, slots=True, eq=False)
class LayerNorm(Operation):
    """(x - mean(x)) / sqrt(variance(x) + eps) · weight + bias; Ba, Kiros and Hinton, arXiv 1607.06450."""

    x: Value
    weight: Parameter
    bias: Parameter | None = None
    eps: float = 1e-5

    def compute(self, run: Reference) -> Any:
        x = normalized(run.torch, run.value(self.x), self.eps, centered=True) * run.weight(self.weight)
        return x if self.bias is None else x + run.weight(self.bias)


def normalized(torch: Any, x: Any, eps: float, *, centered: bool) -> Any:
    """Divide by the root of the mean square over the last axis, with ``centered`` after the mean is taken off."""
    if centered:
        x = x - x.mean(-1, keepdim=True)
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + eps)
