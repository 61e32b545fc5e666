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
        return rms(run.torch, run.value(self.x), self.eps) * run.weight(self.weight)


def rms(torch: Any, x: Any, eps: float) -> Any:
    """Divide by the root of the mean square over the last axis."""
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + eps)
