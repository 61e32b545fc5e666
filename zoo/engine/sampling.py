"""From logits to a token: greedy, or temperature, top-k, top-p and min-p with a seed.

The order and meaning of the steps are those of transformers' logits processors: penalties, temperature, top-k, top-p
(arXiv 1904.09751), min-p (arXiv 2407.01082).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from zoo.engine.penalties import Penalties
from zoo.errors import UsageError, ZooError

FIRST_NUCLEUS = 256
"""How many of the likeliest tokens are looked at first for top-p: seldom is more needed, and sorting all is slow."""

REPETITION_PENALTIES = (0.01, 100.0)
"""Past them a logit of float32 may become infinite, which says nothing about the model."""
LARGEST_ADDED = 1e6
"""Of a penalty or a bias: a thousand times as far as logits reach."""
BLOCK = 512
"""Weights whose sum is taken at once when a token is drawn."""
MINUS_INFINITY = np.float32(-np.inf)
SMALLEST_TEMPERATURE = 1e-30
"""Below, float32 has no room; the likeliest token is all that is left long before."""


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
    min_p: float = 0.0
    """Drop tokens that are less likely than this share of the likeliest one; 0 keeps all."""
    presence_penalty: float = 0.0
    """Taken off the logit of every token that the answer has."""
    frequency_penalty: float = 0.0
    """Taken off once for each time that the answer has it."""
    logit_bias: tuple[tuple[int, float], ...] = ()
    """Token id → what is added to its logit."""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.temperature) and self.temperature >= 0):
            raise UsageError(f"temperature must be 0 or more, not {self.temperature}")
        if self.top_k < 0:
            raise UsageError(f"top-k must be 0 (all) or more, not {self.top_k}")
        if not 0 < self.top_p <= 1:
            raise UsageError(f"top-p must be above 0 and at most 1, not {self.top_p}")
        least, most = REPETITION_PENALTIES
        if not least <= self.repetition_penalty <= most:
            raise UsageError(f"repetition penalty must be between {least} and {most}, not {self.repetition_penalty}")
        if not 0 <= self.min_p <= 1:
            raise UsageError(f"min-p must be between 0 and 1, not {self.min_p}")
        for name, value in (("presence", self.presence_penalty), ("frequency", self.frequency_penalty)):
            if not abs(value) <= LARGEST_ADDED:
                raise UsageError(f"the {name} penalty must be at most {LARGEST_ADDED:g} either way, not {value}")
        for token, bias in self.logit_bias:
            if not abs(bias) <= LARGEST_ADDED:
                raise UsageError(f"the bias of token {token} must be at most {LARGEST_ADDED:g} either way, not {bias}")
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
        self._penalties = Penalties(sampling, prompt)

    def scores(self, logits: NDArray[np.float32], allowed: NDArray[np.bool_] | None = None) -> NDArray[np.float32]:
        """Make the scores that a token is chosen by: logits, adjusted; minus infinity where one may not come.

        Args:
            logits: float32 (vocab,); not changed.
            allowed: bool (vocab,); None for all.
        """
        scores = self._penalties.apply(logits)
        return scores if allowed is None else np.where(allowed, scores, MINUS_INFINITY)

    def choose(self, logits: NDArray[np.float32]) -> int:
        """Choose a token from logits, float32 (vocab,), and count it as seen.

        Raises:
            ZooError: the likeliest is not a finite number.
        """
        return self.pick(self.scores(logits))

    def pick(self, scores: NDArray[np.float32], *, masked: bool = False) -> int:
        """Choose a token by its score, and count it as seen.

        Args:
            scores: float32 (vocab,).
            masked: some are minus infinity; those are never chosen.

        Raises:
            ZooError: the likeliest is not a finite number.
        """
        sampling = self._sampling
        if sampling.temperature == 0:
            token = int(scores.argmax())
            _require_finite(float(scores[token]))
        else:
            among = np.flatnonzero(scores > MINUS_INFINITY) if masked else None
            ids, weights = candidates(scores if among is None else scores[among], sampling)
            at = draw(weights, self._random.random())
            token = at if ids is None else int(ids[at])
            token = token if among is None else int(among[token])
        self._penalties.add(token)
        return token


def candidates(logits: NDArray[np.float32], sampling: Sampling) -> tuple[NDArray[np.int64] | None, NDArray[np.float32]]:
    """Find the tokens that may be chosen, and their weights, proportional to their probabilities.

    Returns:
        Their ids, or None for all in order; weights, float32.
    """
    peak = float(logits.max(initial=-math.inf))
    _require_finite(peak)
    ids: NDArray[np.int64] | None = None
    kept = logits
    if 0 < sampling.top_k < len(logits):
        least = np.partition(logits, -sampling.top_k)[-sampling.top_k]
        # Ties with the last kept value stay, as they do in transformers.
        ids = np.flatnonzero(logits >= least)
        kept = logits[ids]
    with np.errstate(over="ignore"):  # near temperature 0 everything but the peak becomes minus infinity
        weights = np.exp((kept - np.float32(peak)) / np.float32(max(sampling.temperature, SMALLEST_TEMPERATURE)))
    if sampling.top_p < 1:
        nucleus = _nucleus(weights, sampling.top_p)
        ids = nucleus if ids is None else ids[nucleus]
        weights = weights[nucleus]
    if sampling.min_p > 0:
        likely = np.flatnonzero(weights >= np.float32(sampling.min_p))  # the likeliest weighs 1
        ids = likely if ids is None else ids[likely]
        weights = weights[likely]
    return ids, weights


def _nucleus(weights: NDArray[np.float32], top_p: float) -> NDArray[np.int64]:
    """Find the fewest likeliest tokens whose weights reach ``top_p`` of the whole; the likeliest first."""
    wanted = top_p * float(weights.sum(dtype=np.float64))
    size = FIRST_NUCLEUS
    while True:
        some = np.argpartition(weights, -size)[-size:] if size < len(weights) else np.arange(len(weights))
        order = some[np.argsort(-weights[some], kind="stable")]
        sums = weights[order].astype(np.float64).cumsum()
        if sums[-1] >= wanted or len(order) == len(weights):
            # A token stays while those before it have less than wanted.
            return order[: int(np.searchsorted(sums, wanted, side="left")) + 1]
        size *= 8


def draw(weights: NDArray[np.float32], position: float) -> int:
    """Find the index that a position between 0 and 1 falls on, where each takes room in proportion to its weight.

    A running sum over a whole vocabulary is slow; sums of blocks say where it is worth running.
    """
    starts = np.arange(0, len(weights), BLOCK)
    sums = np.add.reduceat(weights, starts).astype(np.float64).cumsum()
    wanted = position * float(sums[-1])
    block = min(int(np.searchsorted(sums, wanted, side="right")), len(sums) - 1)
    before = float(sums[block - 1]) if block else 0.0
    inside = weights[block * BLOCK : (block + 1) * BLOCK].astype(np.float64).cumsum()
    at = min(int(np.searchsorted(inside, wanted - before, side="right")), len(inside) - 1)
    # Rounding may point past the last weight that is not zero.
    while at and weights[block * BLOCK + at] == 0:
        at -= 1
    return block * BLOCK + at


def _require_finite(value: float) -> None:
    if not math.isfinite(value):
        raise ZooError("the model computed logits that are not numbers; verify the package: zoo verify")
