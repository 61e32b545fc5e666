"""Rotary positions as an attribute of attention: which pairs of a head turn, and how fast."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

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
    """How positions turn pairs of a head's values against each other; Su et al., arXiv 2104.09864.

    Pair i is values i and ``width / 2 + i``; with ``interleaved``, values 2i and 2i + 1. Attentions that share their
    angles share the object.
    """

    angles: Callable[[], Angles]
    """Makes the angles, one a pair; numpy is imported only when they are asked for."""
    interleaved: bool = False
    width: int | None = None
    """Values at the head's beginning that turn, the others stay; None is all."""

    def features(self) -> frozenset[str]:
        """Name what a kernel needs beyond turning the halves of a whole head."""
        used = {"interleaved rotary": self.interleaved, "partial rotary": self.width is not None}
        return frozenset(name for name, needed in used.items() if needed)

    def turn(self, torch: Any, x: Any) -> Any:
        """Turn heads as at positions 0, 1, …: (batch, heads, length, head_dim), the same back."""
        angles, width = self.angles(), x.shape[-1] if self.width is None else self.width
        frequencies = torch.from_numpy(angles.frequencies).to(x.device)
        turned = torch.arange(x.shape[-2], device=x.device, dtype=torch.float32)[:, None] * frequencies
        cos, sin = turned.cos() * angles.magnitude, turned.sin() * angles.magnitude
        turning, rest = x[..., :width], x[..., width:]
        a, b = (turning[..., ::2], turning[..., 1::2]) if self.interleaved else turning.chunk(2, -1)
        a, b = a * cos - b * sin, b * cos + a * sin
        pairs = torch.stack([a, b], -1).flatten(-2) if self.interleaved else torch.cat([a, b], -1)
        return torch.cat([pairs, rest], -1)
