"""Where a computation begins and ends: token ids, the positions that are wanted, logits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from zoo.operations.operation import Operation, Reference, Value


@dataclass(frozen=True, slots=True, eq=False)
class TokenIds(Operation):
    """The input token ids, int64 (batch, sequence)."""

    def width(self, of: Callable[[Value], int]) -> int:
        """An id is a number by itself."""
        return 1


@dataclass(frozen=True, slots=True, eq=False)
class LastPositions(Operation):
    """The positions whose logits are asked for: the last one unless the caller says otherwise.

    The reference keeps all.
    """

    x: Value

    def compute(self, run: Reference) -> Any:
        return run.value(self.x)


@dataclass(frozen=True, slots=True, eq=False)
class Logits(Operation):
    """The result of a language model: float (batch, positions, vocabulary)."""

    x: Value

    def compute(self, run: Reference) -> Any:
        return run.value(self.x)
