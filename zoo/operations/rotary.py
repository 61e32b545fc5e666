"""Rotary positions as an attribute of attention: which pairs of a head turn, and how fast."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class Angles:
    """Position p turns pair i by the angle p · frequencies[i]; cosines and sines are multiplied by ``magnitude``."""

    frequencies: NDArray[np.float32]
    """One a pair, radians a position; zero where a pair is padding."""
    exponents: NDArray[np.float32]
    """One a pair: 2i / head size, so that a frequency is θ^-exponent; used when the base grows."""
    turning: int
    """Pairs that are not padding."""
    magnitude: float = 1.0
    growth: tuple[float, float, int, float] | None = None
    """Dynamic NTK scaling, (θ, factor, original context, power): at a length n over the original context c,
    θ becomes θ · (factor · n / c - (factor - 1)) ^ power. Position p is turned as at length p + 1, which is what
    transformers does to each token that it generates."""


@dataclass(frozen=True, slots=True, eq=False)
class Rotary:
    """How positions turn the halves of a head against each other: pair i is values i and ``head_dim / 2 + i``."""

    angles: Callable[[], Angles]
    """Makes the angles; numpy is imported only when they are asked for."""
    context: int
    """Positions to make tables for."""
