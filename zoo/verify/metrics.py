"""What is measured between two sets of logits, a slice of positions at a time."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_TILE = 1 << 20
"""Numbers that are worked on at a time: their forms in float64 stay in the cache, and their memory is used again."""


def log_softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """Normalize logits (positions, vocab) to log probabilities, in float64."""
    import numpy as np

    wide = logits.astype(np.float64)
    wide -= wide.max(axis=-1, keepdims=True)
    wide -= np.log(np.exp(wide).sum(axis=-1, keepdims=True))
    return wide


def _likelihoods(logits: NDArray[np.float32], following: NDArray[np.int64]) -> NDArray[np.float64]:
    """Log probability of one token at each position; ``log_softmax`` of all would cost four times as much."""
    import numpy as np

    highest = logits.max(axis=-1)
    total = np.exp(logits - highest[:, None]).sum(axis=-1, dtype=np.float64)
    likelihoods: NDArray[np.float64] = logits[np.arange(len(following)), following] - np.log(total) - highest
    return likelihoods


def relative_error(found: NDArray[np.float32], wanted: NDArray[np.float32]) -> tuple[float, float]:
    """Sums of squares of the difference and of what was wanted; the root of their ratio is the relative RMS error."""
    import numpy as np

    error = total = 0.0
    for rows in _tiles(wanted):
        wide = wanted[rows].astype(np.float64)
        error, total = error + float(np.square(found[rows] - wide).sum()), total + float(np.square(wide).sum())
    return error, total


def _tiles(rows: NDArray[np.float32]) -> Iterator[slice]:
    """Cut (positions, width) into runs of rows."""
    step = max(1, _TILE // max(1, rows.shape[-1]))
    return (slice(start, start + step) for start in range(0, len(rows), step))


def root_ratio(error: float, total: float) -> float:
    """Root of ``error / total``; zero error of nothing is none."""
    if error == 0:
        return 0.0
    return math.sqrt(error / total) if total > 0 else math.inf


@dataclass
class LogitFigures:
    """Sums over positions, so that logits are seen once and forgotten.

    KL is KL(reference ‖ package) in nats. Source: Kullback and Leibler, On information and sufficiency, 1951.
    """

    positions: int = 0
    same_top: int = 0
    near_top: int = 0
    kl_sum: float = 0.0
    kl_worst: float = 0.0
    largest_difference: float = 0.0
    not_finite: int = 0
    _deviation: float = 0.0

    def add(self, reference: NDArray[np.float32], package: NDArray[np.float32], tie: float) -> None:
        """Take the logits of some positions, each (positions, vocab).

        Args:
            tie: nats by which the reference may prefer its own top token to the package's while both count as equal.
        """
        for rows in _tiles(reference):
            self._add(reference[rows], package[rows], tie)

    def _add(self, reference: NDArray[np.float32], package: NDArray[np.float32], tie: float) -> None:
        import numpy as np

        self.positions += len(reference)
        p = log_softmax(reference)
        self._deviation += float(p.std(axis=-1).sum())  # of the logits too, which are apart by a constant
        good = np.isfinite(package).all(axis=-1)
        self.not_finite += int((~good).sum())
        if not good.all():
            reference, package, p = reference[good], package[good], p[good]
        if not len(reference):
            return
        q = log_softmax(package)
        top, other = p.argmax(axis=-1), q.argmax(axis=-1)
        rows = np.arange(len(p))
        self.same_top += int((top == other).sum())
        self.near_top += int((p[rows, top] - p[rows, other] <= tie).sum())
        kl = np.einsum("pv,pv->p", np.exp(p), p - q)
        self.kl_sum += float(kl.sum())
        self.kl_worst = max(self.kl_worst, float(kl.max()))
        self.largest_difference = max(self.largest_difference, float(np.abs(reference - package).max()))

    @property
    def top1(self) -> float:
        """Share of positions whose likeliest token is the same."""
        return self.same_top / self.positions if self.positions else 1.0

    @property
    def top1_but_ties(self) -> float:
        """The same, where tokens that the reference all but cannot tell apart count as one."""
        return self.near_top / self.positions if self.positions else 1.0

    @property
    def kl_mean(self) -> float:
        return self.kl_sum / self.positions if self.positions else 0.0

    @property
    def deviation(self) -> float:
        """Standard deviation of the reference's logits at a position, on average: the scale of a difference."""
        return self._deviation / self.positions if self.positions else 0.0

    @property
    def difference(self) -> float:
        """The largest logit difference in units of ``deviation``."""
        if self.largest_difference == 0:
            return 0.0
        return self.largest_difference / self.deviation if self.deviation else math.inf


@dataclass
class TextFigures:
    """Negative log-likelihood of a text on both sides."""

    tokens: int = 0
    reference: float = 0.0
    package: float = 0.0
    _squares: float = 0.0

    def add(self, reference: NDArray[np.float32], package: NDArray[np.float32], following: NDArray[np.int64]) -> None:
        """Take logits of some positions and the token that follows each."""
        import numpy as np

        self.tokens += len(following)
        right, found = _likelihoods(reference, following), _likelihoods(package, following)
        self.reference -= float(right.sum())
        self.package -= float(found.sum())
        self._squares += float(np.square(found - right).sum())

    @property
    def chance(self) -> float:
        """Standard error of the relative difference of the two perplexities: what so few tokens leave to chance."""
        if self.tokens < 2:
            return math.inf
        mean = (self.reference - self.package) / self.tokens
        return math.sqrt(max(0.0, self._squares / self.tokens - mean**2) / (self.tokens - 1))

    def perplexity(self, total: float) -> float:
        """exp of the mean negative log-likelihood; infinite where it is past what a float holds."""
        try:
            return math.exp(total / self.tokens) if self.tokens else math.nan
        except OverflowError:
            return math.inf


@dataclass
class Continuation:
    """Greedy tokens of the package, seen by the reference on the same prefix."""

    prompt: str
    tokens: int = 0
    equal: int = 0
    worst: float = 0.0

    def add(self, reference: NDArray[np.float32], chosen: NDArray[np.int64]) -> None:
        """Take the reference's logits of some positions, in order, and the token that the package put after each."""
        import numpy as np

        log_probabilities = log_softmax(reference)
        best = log_probabilities.max(axis=-1)
        lost = best - log_probabilities[np.arange(len(chosen)), chosen]
        wrong = np.flatnonzero(lost > 0)
        if self.equal == self.tokens:
            self.equal += int(wrong[0]) if len(wrong) else len(chosen)
        self.tokens += len(chosen)
        self.worst = max(self.worst, float(lost.max(initial=0.0)))
