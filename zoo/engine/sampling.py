"""From logits to a token: greedy, or temperature, top-k and top-p with a seed.

The order and meaning of the steps are those of transformers' logits processors: repetition penalty (arXiv 1909.05858),
temperature, top-k, top-p (arXiv 1904.09751).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from zoo.errors import UsageError, ZooError

FIRST_NUCLEUS = 256
"""How many of the likeliest tokens are looked at first for top-p: seldom is more needed, and sorting all is slow."""


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
    """Chooses the tokens of one sequence; a seed makes the choices repeatable.

    Args:
        sampling: how.
        prompt: the ids before the first choice, which the repetition penalty counts as seen.
    """

    def __init__(self, sampling: Sampling, prompt: Iterable[int] = ()) -> None:
        self._sampling = sampling
        self._random = np.random.default_rng(sampling.seed)
        self._seen = _Seen(prompt) if sampling.repetition_penalty != 1.0 else None

    def choose(self, logits: NDArray[np.float32]) -> int:
        """Choose a token, and count it as seen.

        Args:
            logits: float32 (vocab,); not changed.

        Raises:
            ZooError: the likeliest is no finite number.
        """
        sampling = self._sampling
        if self._seen is not None:
            logits = penalize(logits, self._seen.ids, sampling.repetition_penalty)
        if sampling.temperature == 0:
            token = int(logits.argmax())
            _require_finite(float(logits[token]))
        else:
            ids, weights = candidates(logits, sampling)
            edges = np.cumsum(weights)
            at = int(np.searchsorted(edges, self._random.random() * edges[-1], side="right"))
            at = min(at, len(weights) - 1)
            token = at if ids is None else int(ids[at])
        if self._seen is not None:
            self._seen.add(token)
        return token


def penalize(logits: NDArray[np.float32], seen: NDArray[np.int64], penalty: float) -> NDArray[np.float32]:
    """Divide the positive logits of seen tokens by the penalty, multiply the negative ones.

    Args:
        seen: ids, each once.
    """
    result = logits.copy()
    values = result[seen]
    result[seen] = np.where(values < 0, values * penalty, values / penalty)
    return result


def candidates(logits: NDArray[np.float32], sampling: Sampling) -> tuple[NDArray[np.int64] | None, NDArray[np.float64]]:
    """Find the tokens that may be chosen, and their weights, proportional to their probabilities.

    Returns:
        Their ids, or None for all in order; weights, float64.
    """
    ids: NDArray[np.int64] | None = None
    kept = logits
    if 0 < sampling.top_k < len(logits):
        least = np.partition(logits, -sampling.top_k)[-sampling.top_k]
        # Ties with the last kept value stay, as they do in transformers.
        ids = np.flatnonzero(logits >= least)
        kept = logits[ids]
    peak = float(kept.max(initial=-math.inf))
    _require_finite(peak)
    # Subtracted first, so that a temperature near 0 cannot overflow.
    weights = np.exp((kept.astype(np.float64) - peak) / sampling.temperature)
    if sampling.top_p < 1:
        nucleus = _nucleus(weights, sampling.top_p)
        ids = nucleus if ids is None else ids[nucleus]
        weights = weights[nucleus]
    return ids, weights


def _nucleus(weights: NDArray[np.float64], top_p: float) -> NDArray[np.int64]:
    """Find the fewest likeliest tokens whose weights reach ``top_p`` of the whole; the likeliest first."""
    wanted = top_p * float(weights.sum())
    size = FIRST_NUCLEUS
    while True:
        some = np.argpartition(weights, -size)[-size:] if size < len(weights) else np.arange(len(weights))
        order = some[np.argsort(-weights[some], kind="stable")]
        sums = np.cumsum(weights[order])
        if sums[-1] >= wanted or len(order) == len(weights):
            # A token stays while those before it have less than wanted.
            return order[: int(np.searchsorted(sums, wanted, side="left")) + 1]
        size *= 8


def _require_finite(value: float) -> None:
    if not math.isfinite(value):
        raise ZooError("the model computed logits that are no numbers; verify the package: zoo verify")


class _Seen:
    """A growing set of ids that hands itself out as an array."""

    def __init__(self, ids: Iterable[int]) -> None:
        self._members = set(ids)
        self._size = len(self._members)
        self._ids = np.empty(self._size + 256, np.int64)
        self._ids[: self._size] = list(self._members)

    def add(self, token: int) -> None:
        if token in self._members:
            return
        self._members.add(token)
        if self._size == len(self._ids):
            self._ids = np.concatenate([self._ids, np.empty_like(self._ids)])
        self._ids[self._size] = token
        self._size += 1

    @property
    def ids(self) -> NDArray[np.int64]:
        return self._ids[: self._size]
