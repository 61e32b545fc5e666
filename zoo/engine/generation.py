"""One answer: its own sampler, stops, text and timings, advanced by one step's logits at a time.

A ``Request`` knows no session: whoever runs it, alone or among others, hands it logits and takes its next token.
"""

from __future__ import annotations

import time
from collections.abc import Generator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from zoo.engine.interrupt import on_interrupt
from zoo.engine.sampling import Sampler, Sampling
from zoo.engine.text import StopStrings, Tokenizer

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from zoo.engine.cache import KVCache
    from zoo.engine.session import Session

AHEAD = 512
"""Tokens of an answer for which the cache makes room at once."""
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
    """From the request to the first token: TTFT."""
    decode_s: float = 0.0
    prefill_tokens: int = 0
    """Tokens of the prompt that were computed; the others came from the cache."""
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

    token_id: int | None
    """None for text that was held back until the answer ended."""
    text: str
    """Text that became certain with it; may be empty."""


class Request:
    """An answer in the making.

    Args:
        generation: filled as the answer grows.
        context: tokens that prompt and answer may have together.
        tokenizer: None where no text is wanted.
    """

    def __init__(
        self, generation: Generation, limits: Limits, sampling: Sampling, context: int, tokenizer: Tokenizer | None
    ) -> None:
        prompt = generation.prompt_ids
        self.generation = generation
        self._ends = limits.stop_token_ids
        self.room = min(limits.max_new_tokens, context - len(prompt))
        self._sampler = Sampler(sampling, prompt)
        self._stream = tokenizer.stream(prompt) if tokenizer is not None else None
        self._stops = StopStrings(limits.stop)

    @property
    def finished(self) -> bool:
        return self.generation.finish_reason is not None

    def accept(self, logits: NDArray[np.float32]) -> Piece:
        """Choose the next token from the last position's logits, float32 (vocab,); it may finish the answer."""
        generation = self.generation
        token = self._sampler.choose(logits)
        if token in self._ends:
            return self._finish("stop", None, "")
        generation.token_ids.append(token)
        text = self._stops.add(self._stream.add(token)) if self._stream is not None else ""
        if self._stops.found:
            return self._finish("stop", token, text)
        if len(generation.token_ids) >= self.room:
            return self._finish("length", token, text)
        generation.text += text
        return Piece(token, text)

    def interrupt(self) -> None:
        """End the answer as it is; what was held back becomes part of its text."""
        if not self.finished:
            self._finish("interrupt", None, "")

    def _finish(self, reason: FinishReason, token: int | None, text: str) -> Piece:
        if self._stream is not None and not self._stops.found:
            text += self._stops.add(self._stream.rest())
            text += self._stops.rest()
            if self._stops.found:
                reason = "stop"
        self.generation.text += text
        self.generation.finish_reason = reason
        return Piece(token, text)


def run_request(session: Session, cache: KVCache, request: Request) -> Generator[Piece, None, None]:
    """Run one request by itself: the prompt, then a token a step, until something ends it.

    Whatever the cache holds of the prompt's beginning is not computed again.

    Raises:
        KeyboardInterrupt: interrupted; the answer so far stands in the request, finished as ``interrupt``.
    """
    generation, started = request.generation, time.perf_counter()
    timings, prompt = generation.timings, generation.prompt_ids
    # At least the last token is computed: its logits are wanted.
    cache.keep(min(cache.common(prompt), len(prompt) - 1))
    timings.prefill_tokens = len(prompt) - len(cache)
    try:
        cache.reserve(min(cache.context, len(prompt) + min(request.room, AHEAD)))
        with on_interrupt(session.interrupt):
            logits = session.prefill(cache, prompt[len(cache) :])
        piece = request.accept(logits[0])
        timings.prefill_s = time.perf_counter() - started
        while not request.finished:
            yield piece
            started = time.perf_counter()
            piece = request.accept(session.forward(cache, generation.token_ids[-1:])[0])
            timings.decode_tokens += 1
            timings.decode_s += time.perf_counter() - started
        if piece.token_id is not None or piece.text:
            yield piece
    except (KeyboardInterrupt, GeneratorExit):
        request.interrupt()
        raise
    finally:
        session.resume()
