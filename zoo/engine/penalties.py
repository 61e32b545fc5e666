"""What a text so far does to the next token's logits: penalties for what came, and biases that a request asks for.

The repetition penalty is that of CTRL (arXiv 1909.05858) and counts prompt and answer; those for presence and frequency
are OpenAI's and count the answer alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from zoo.engine.sampling import Sampling


class Penalties:
    """Adjusts the logits of one answer.

    Args:
        sampling: what is asked for.
        prompt: the ids before the answer.
    """

    def __init__(self, sampling: Sampling, prompt: Iterable[int] = ()) -> None:
        self._sampling = sampling
        self._seen = _Seen(prompt) if sampling.repetition_penalty != 1.0 else None
        counts = sampling.presence_penalty != 0 or sampling.frequency_penalty != 0
        self._counts: dict[int, int] | None = {} if counts else None
        bias = dict(sampling.logit_bias)
        self._biased = np.fromiter(bias, np.int64, len(bias))
        self._bias = np.fromiter(bias.values(), np.float32, len(bias))

    def apply(self, logits: NDArray[np.float32]) -> NDArray[np.float32]:
        """Adjust logits, float32 (vocab,), which stay as they are; return them where there is nothing to adjust."""
        sampling, seen, counts = self._sampling, self._seen, self._counts
        if not (len(self._bias) or seen is not None or counts):
            return logits
        result = logits.copy()
        result[self._biased] += self._bias
        if seen is not None:
            values = result[seen.ids]
            penalty = sampling.repetition_penalty
            result[seen.ids] = np.where(values < 0, values * penalty, values / penalty)
        if counts:
            ids = np.fromiter(counts, np.int64, len(counts))
            times = np.fromiter(counts.values(), np.float32, len(counts))
            result[ids] -= np.float32(sampling.presence_penalty) + np.float32(sampling.frequency_penalty) * times
        return result

    def add(self, token: int) -> None:
        """Take the token that was chosen."""
        if self._seen is not None:
            self._seen.add(token)
        if self._counts is not None:
            self._counts[token] = self._counts.get(token, 0) + 1


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
