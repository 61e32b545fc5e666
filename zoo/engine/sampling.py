"""From logits to a token: greedy, or temperature, top-k and top-p with a seed.

The order and meaning of the steps are those of transformers' logits processors: repetition penalty (arXiv 1909.05858),
temperature, top-k, top-p (arXiv 1904.09751).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from zoo.errors import UsageError


@dataclass(frozen=True, slots=True)
class Sampling:
    """How to choose. ``temperature`` 0 is greedy; ``top_k`` 0 and ``top_p`` 1 keep every token.

    Raises:
        UsageError: a value that means nothing.
    """

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    repetition_penalty: float = 1.0
    seed: int | None = None

    def __post_init__(self) -> None:
        if not (math.isfinite(self.temperature) and self.temperature >= 0):
            raise UsageError(f"temperature must be 0 or more, not {self.temperature}")
        if self.top_k < 0:
            raise UsageError(f"top-k must be 0 (all) or more, not {self.top_k}")
        if not 0 < self.top_p <= 1:
            raise UsageError(f"top-p must be above 0 and at most 1, not {self.top_p}")
        if not (math.isfinite(self.repetition_penalty) and self.repetition_penalty > 0):
            raise UsageError(f"repetition penalty must be above 0, not {self.repetition_penalty}")
        if self.seed is not None and self.seed < 0:
            raise UsageError(f"seed must be 0 or more, not {self.seed}")


class Sampler:
    """Chooses one sequence's tokens; a seed makes the choices repeatable."""

    def __init__(self, sampling: Sampling) -> None:
        self._sampling = sampling
        self._random = np.random.default_rng(sampling.seed)

    def choose(self, logits: NDArray[np.float32], seen: NDArray[np.int64] | None = None) -> int:
        """Choose a token.

        Args:
            logits: float32 (vocab,); not changed.
            seen: ids of prompt and answer so far, for the repetition penalty.
        """
        sampling = self._sampling
        if sampling.repetition_penalty != 1.0 and seen is not None and len(seen):
            logits = penalize(logits, seen, sampling.repetition_penalty)
        if sampling.temperature == 0:
            return int(logits.argmax())
        ids, weights = candidates(logits, sampling)
        edges = np.cumsum(weights)
        at = int(np.searchsorted(edges, self._random.random() * edges[-1], side="right"))
        return int(ids[min(at, len(ids) - 1)])


def penalize(logits: NDArray[np.float32], seen: NDArray[np.int64], penalty: float) -> NDArray[np.float32]:
    """Divide the positive logits of seen tokens by the penalty, multiply the negative ones."""
    result = logits.copy()
    ids = np.unique(seen)
    values = result[ids]
    result[ids] = np.where(values < 0, values * penalty, values / penalty)
    return result


def candidates(logits: NDArray[np.float32], sampling: Sampling) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Find the tokens that may be chosen, the likeliest first, and their probabilities."""
    top_k = min(sampling.top_k or len(logits), len(logits))
    if top_k < len(logits):
        ids = np.argpartition(-logits, top_k - 1)[:top_k]
        # Ties with the last kept value stay, as they do in transformers.
        ids = np.flatnonzero(logits >= logits[ids].min())
    else:
        ids = np.arange(len(logits))
    scaled = logits[ids].astype(np.float64) / sampling.temperature
    order = np.argsort(-scaled, kind="stable")
    ids, scaled = ids[order], scaled[order]
    weights = np.exp(scaled - scaled[0])
    weights /= weights.sum()
    if sampling.top_p < 1:
        before = np.cumsum(weights) - weights
        kept = max(1, int(np.searchsorted(before, sampling.top_p, side="left")))
        ids, weights = ids[:kept], weights[:kept] / weights[:kept].sum()
    return ids, weights
