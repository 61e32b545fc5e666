"""Where a computation begins and ends: tokens, their positions and types; the positions that are wanted; results."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from zoo.operations.operation import Operation, Reference, Value


@dataclass(frozen=True, slots=True, eq=False)
class TokenIds(Operation):
    """The input token ids, int64 (batch, sequence)."""

    context: int
    """Positions that the computation serves."""

    def width(self, of: Callable[[Value], int]) -> int:
        return 1


@dataclass(frozen=True, slots=True, eq=False)
class TokenTypes(Operation):
    """The type of each token (which of two texts it is of), an input like the ids; in the reference all are 0."""

    ids: Value
    types: int = 2
    """How many there are; a single one is not asked for."""

    def compute(self, run: Reference) -> Any:
        return run.torch.zeros_like(run.value(self.ids))


@dataclass(frozen=True, slots=True, eq=False)
class Positions(Operation):
    """The position of each token in its text, int64 like the ids, counted from ``first``."""

    ids: Value
    first: int = 0

    def compute(self, run: Reference) -> Any:
        ids = run.value(self.ids)
        return (run.torch.arange(ids.shape[-1], device=ids.device) + self.first).expand_as(ids)


@dataclass(frozen=True, slots=True, eq=False)
class LastPositions(Operation):
    """The positions whose logits are asked for: the last one unless the caller says otherwise.

    The reference keeps all.
    """

    x: Value

    def compute(self, run: Reference) -> Any:
        return run.value(self.x)


@dataclass(frozen=True, slots=True, eq=False)
class FirstPosition(Operation):
    """What stands at a text's first token: (batch, sequence, width) → (batch, width)."""

    x: Value

    def compute(self, run: Reference) -> Any:
        return run.value(self.x)[:, 0]


@dataclass(frozen=True, slots=True, eq=False)
class Logits(Operation):
    """The result of a language model: float (batch, positions, vocabulary)."""

    x: Value

    def compute(self, run: Reference) -> Any:
        return run.value(self.x)


@dataclass(frozen=True, slots=True, eq=False)
class Scores(Operation):
    """The result of a classifier: float (batch, labels)."""

    x: Value

    def compute(self, run: Reference) -> Any:
        return run.value(self.x)


@dataclass(frozen=True, slots=True, eq=False)
class HiddenStates(Operation):
    """The result of an encoder: float (batch, sequence, width)."""

    x: Value

    def compute(self, run: Reference) -> Any:
        return run.value(self.x)
