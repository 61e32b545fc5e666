"""The generation of one answer: prefill, then a token a step, until something ends it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from zoo.engine.sampling import Sampler, Sampling
from zoo.engine.session import Session
from zoo.engine.text import StopStrings, Tokenizer

FinishReason = Literal["stop", "length", "interrupt"]


@dataclass(frozen=True, slots=True)
class Limits:
    """When an answer ends."""

    max_new_tokens: int = 256
    stop: tuple[str, ...] = ()
    stop_token_ids: frozenset[int] = frozenset()


@dataclass(slots=True)
class Timings:
    """Where the time went, in seconds."""

    load_s: float = 0.0
    prefill_s: float = 0.0
    decode_s: float = 0.0
    prefill_tokens: int = 0
    decode_tokens: int = 0
    """Steps after the first token."""

    @property
    def prefill_tokens_per_s(self) -> float:
        return self.prefill_tokens / self.prefill_s if self.prefill_s else 0.0

    @property
    def decode_tokens_per_s(self) -> float:
        return self.decode_tokens / self.decode_s if self.decode_s else 0.0


@dataclass(slots=True)
class Generation:
    """An answer, finished or under way."""

    prompt_ids: list[int]
    token_ids: list[int] = field(default_factory=list)
    """Tokens of the answer; one that ended it (eos) is not among them."""
    text: str = ""
    finish_reason: FinishReason | None = None
    timings: Timings = field(default_factory=Timings)


@dataclass(frozen=True, slots=True)
class Piece:
    """What one step brought."""

    token_id: int
    text: str
    """Text that became certain with it; may be empty."""


def generate(
    session: Session,
    tokenizer: Tokenizer | None,
    generation: Generation,
    limits: Limits,
    sampling: Sampling,
    *,
    cached: int = 0,
) -> Iterator[Piece]:
    """Run one answer step by step, filling ``generation`` as it goes.

    Args:
        cached: how many of the prompt's tokens the session's cache holds already.
    """
    timings = generation.timings
    sampler = Sampler(sampling)
    stream = tokenizer.stream(generation.prompt_ids) if tokenizer is not None else None
    stops = StopStrings(limits.stop)
    seen = _Seen(generation.prompt_ids) if sampling.repetition_penalty != 1.0 else None
    session.reset(cached)
    started = time.perf_counter()
    try:
        logits = session.prefill(generation.prompt_ids[cached:])
        timings.prefill_tokens = len(generation.prompt_ids) - cached
        room = min(limits.max_new_tokens, session.context - len(generation.prompt_ids))
        while True:
            token = sampler.choose(logits, seen.ids if seen is not None else None)
            if timings.prefill_s == 0.0:
                timings.prefill_s = time.perf_counter() - started
                started = time.perf_counter()
            if token in limits.stop_token_ids:
                generation.finish_reason = "stop"
                break
            generation.token_ids.append(token)
            if seen is not None:
                seen.add(token)
            text = stops.add(stream.add(token)) if stream is not None else ""
            generation.text += text
            yield Piece(token, text)
            if stops.found:
                generation.finish_reason = "stop"
                break
            if len(generation.token_ids) >= room:
                generation.finish_reason = "length"
                break
            logits = session.step([token])[0]
            timings.decode_tokens += 1
    except (KeyboardInterrupt, GeneratorExit):
        generation.finish_reason = "interrupt"
        raise
    finally:
        if timings.prefill_s:
            timings.decode_s = time.perf_counter() - started
    if stream is not None:
        rest = stops.add(stream.rest()) + stops.rest()
        if rest:
            generation.text += rest
            yield Piece(-1, rest)


class _Seen:
    """Ids of prompt and answer, in one growing array."""

    def __init__(self, ids: Sequence[int]) -> None:
        self._ids = np.array(ids, np.int64)
        self._size = len(ids)

    def add(self, token: int) -> None:
        if self._size == len(self._ids):
            self._ids = np.concatenate([self._ids, np.empty(max(64, self._size), np.int64)])
        self._ids[self._size] = token
        self._size += 1

    @property
    def ids(self) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        return self._ids[: self._size]
