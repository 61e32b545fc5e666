"""One answer: its own sampler, stops, text and timings, advanced by one step's logits at a time.

A ``ActiveRequest`` knows no session: whoever runs it, alone or among others, hands it logits and takes its next token.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np

from zoo.engine.decoding import decode
from zoo.engine.interrupt import on_interrupt
from zoo.engine.logprobs import TokenLogprob, token_logprob
from zoo.engine.lookup import MOST, PromptLookup
from zoo.engine.sampling import Sampler, Sampling
from zoo.engine.text import StopStrings, Tokenizer

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from zoo.contracts.constraint import Constraint
    from zoo.engine.cache import KVCache
    from zoo.engine.draft import Draft, Pace
    from zoo.engine.session import Session

AHEAD = 512
"""Tokens of an answer for which the cache makes room at once."""
FinishReason = Literal["stop", "length", "interrupt"]


@dataclass(frozen=True, slots=True)
class Limits:
    """When an answer ends; a stop string that is a special token's text ends it at that token."""

    max_new_tokens: int = 256
    stop: tuple[str, ...] = ()
    stop_token_ids: frozenset[int] = frozenset()
    include_stop: bool = False
    """What ended the answer is part of its text."""


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
    guessed: int = 0
    """Tokens that were guessed ahead, by prompt lookup or a draft model; ``guessed_right`` of them hold."""
    guessed_right: int = 0

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
    logprobs: list[TokenLogprob] = field(default_factory=list)
    """One for each token, where they were asked for."""
    prompt_logprobs: list[TokenLogprob] = field(default_factory=list)
    """One for each token of the prompt but the first, where they were asked for."""


@dataclass(frozen=True, slots=True)
class Piece:
    """What one step brought."""

    token_id: int | None
    """None for text that was held back until the answer ended."""
    text: str
    """Text that became certain with it; may be empty."""
    logprob: TokenLogprob | None = None
    """Where it was asked for."""


class ActiveRequest:
    """A request that is being answered.

    Args:
        generation: filled as the answer grows.
        context: tokens that prompt and answer may have together.
        tokenizer: None where no text is wanted.
        logprobs: how many of the likeliest tokens to name beside each token's own probability; None for no such thing.
        prompt_logprobs: the same of the prompt's tokens.
        end_logprob: the token that ends the answer, which is not part of it, has a log probability too.
        constraint: what the answer may be.
        visible: special tokens that are part of the text all the same.
        tie: how close the two best logits may lie before a guess is computed again as a token by itself.
        lookup: guess tokens from the text so far.
        pace: how far a draft model guesses ahead; None without one.
    """

    def __init__(
        self,
        generation: Generation,
        limits: Limits,
        sampling: Sampling,
        context: int,
        tokenizer: Tokenizer | None,
        *,
        logprobs: int | None = None,
        prompt_logprobs: int | None = None,
        end_logprob: bool = False,
        constraint: Constraint | None = None,
        visible: frozenset[int] = frozenset(),
        tie: float = 0.0,
        lookup: bool = False,
        pace: Pace | None = None,
    ) -> None:
        prompt = generation.prompt_ids
        self.generation = generation
        self._ends = limits.stop_token_ids | (tokenizer.ids_of_stops(limits.stop) if tokenizer else frozenset())
        self._constraint = constraint
        self._include_stop = limits.include_stop
        self.room = min(limits.max_new_tokens, context - len(prompt))
        self._sampler = Sampler(sampling, prompt)
        self._stream = tokenizer.stream(prompt, visible) if tokenizer is not None else None
        self._stops = StopStrings(limits.stop, include=limits.include_stop)
        self._logprobs = logprobs
        self.prompt_logprobs = prompt_logprobs
        self._end_logprob = end_logprob
        self._lookup = PromptLookup(prompt) if lookup else None
        self._pace = pace
        self._guesser: PromptLookup | Pace | None = None
        """What made the guesses of the step under way."""
        self._tie = tie if sampling.temperature == 0 else 0.0
        self._alone = False
        """The next token is computed without guesses: the last step could not tell it for sure."""

    @property
    def finished(self) -> bool:
        return self.generation.finish_reason is not None

    def accept(self, logits: NDArray[np.float32]) -> Piece:
        """Choose the next token from the last position's logits, float32 (vocab,); it may finish the answer."""
        return self._accept(logits, self._scores(logits))

    def _scores(self, logits: NDArray[np.float32]) -> NDArray[np.float32]:
        """Make the scores that the next token is chosen by."""
        allowed = self._constraint.allowed() if self._constraint is not None else None
        return self._sampler.scores(logits, allowed)

    def _accept(self, logits: NDArray[np.float32], scores: NDArray[np.float32]) -> Piece:
        if self.room < 1:
            return self._finish("length", None, "")
        token = self._sampler.pick(scores, masked=self._constraint is not None)
        counted = self._end_logprob if token in self._ends else self._logprobs is not None
        return self.take(token, token_logprob(logits, token, self._logprobs or 0) if counted else None)

    def take(self, token: int, logprob: TokenLogprob | None = None) -> Piece:
        """Add the token that was chosen, here or by another program; it may finish the answer."""
        generation, constraint = self.generation, self._constraint
        if token in self._ends:
            text = self._stream.add(token) if self._include_stop and self._stream is not None else ""
            return self._finish("stop", None, self._stops.add(text), logprob if self._end_logprob else None)
        generation.token_ids.append(token)
        if logprob is not None:
            generation.logprobs.append(logprob)
        if constraint is not None:
            constraint.accept(token)
        if self._lookup is not None:
            self._lookup.add(token)
        text = self._stops.add(self._stream.add(token)) if self._stream is not None else ""
        if self._stops.found or (constraint is not None and constraint.complete):
            return self._finish("stop", token, text, logprob)
        if len(generation.token_ids) >= self.room:
            return self._finish("length", token, text, logprob)
        generation.text += text
        return Piece(token, text, logprob)

    def next_ids(self, most: int = MOST) -> list[int]:
        """What the next step computes: the last token, and guesses from the text at what follows it."""
        last = self.generation.token_ids[-1:]
        if self._lookup is None or self._alone:
            return last
        self._guesser = self._lookup
        return last + self._lookup.propose(min(most, self._most_guesses))

    def guesses_wanted(self, most: int, streams: int) -> int:
        """Say how many tokens a draft model is to guess, at most ``most``, where as many answers share a step."""
        most = min(most, self._most_guesses)
        if self._pace is None or self._alone or most < 1:
            return 0
        self._guesser = self._pace
        return self._pace.count(most, streams)

    @property
    def _most_guesses(self) -> int:
        return self.room - len(self.generation.token_ids) - 1

    def advance(self, ids: Sequence[int], logits: NDArray[np.float32]) -> list[Piece]:
        """Take tokens as long as they are what was guessed.

        Args:
            ids: what the step computed: the last token, and guesses.
            logits: one row for each of them, float32 (tokens, vocab).

        Returns:
            The pieces of the tokens that hold, possibly none. Of what the cache took, ``held`` tokens are to be kept.
        """
        pieces: list[Piece] = []
        guesses, self._alone = ids[1:], False
        for at, row in enumerate(logits):
            scores = self._scores(row)
            if guesses and self._tie and _gap(scores) < self._tie:
                # Several tokens in one step come out a little different from one by itself; here that might show.
                self._alone = True
                break
            pieces.append(self._accept(row, scores))
            if self.finished or at == len(guesses) or self.generation.token_ids[-1] != guesses[at]:
                break
        if guesses and self._guesser is not None and not self._alone:
            self._guesser.learn(len(guesses), len(pieces) - 1)
        self.generation.timings.guessed += len(guesses)
        self.generation.timings.guessed_right += max(0, len(pieces) - 1)
        return pieces

    @property
    def held(self) -> int:
        """Tokens that the cache holds rightly: all but the last, which the next step brings."""
        return len(self.generation.prompt_ids) + len(self.generation.token_ids) - 1

    def end(self, reason: FinishReason) -> Piece:
        """End the answer as it is; what was held back becomes part of its text."""
        return Piece(None, "") if self.finished else self._finish(reason, None, "")

    def interrupt(self) -> None:
        """End the answer before its time."""
        self.end("interrupt")

    def _finish(self, reason: FinishReason, token: int | None, text: str, logprob: TokenLogprob | None = None) -> Piece:
        if self._stream is not None and not self._stops.found:
            text += self._stops.add(self._stream.rest())
            text += self._stops.rest()
            if self._stops.found:
                reason = "stop"
        self.generation.text += text
        self.generation.finish_reason = reason
        return Piece(token, text, logprob)


def _gap(scores: NDArray[np.float32]) -> float:
    """How far the second best score lies behind the best."""
    best = int(scores.argmax())
    others = max(scores[:best].max(initial=-np.inf), scores[best + 1 :].max(initial=-np.inf))
    return float(scores[best]) - float(others)


def run_request(
    session: Session, cache: KVCache, request: ActiveRequest, draft: Draft | None = None
) -> Generator[Piece, None, None]:
    """Run one request by itself: the prompt, then a token a step, until something ends it.

    Whatever the cache holds of the prompt's beginning is not computed again.

    Args:
        draft: guesses ahead.

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
        pieces = [request.accept(logits[0])]
        timings.prefill_s = time.perf_counter() - started
        while not request.finished:
            yield from pieces
            started = time.perf_counter()
            decoded = decode(session, cache.slots, {cache.slot: request}, guesses=MOST, draft=draft)
            pieces, error = decoded.answers[cache.slot]
            if error is not None:
                raise error
            timings.decode_tokens += len(pieces)
            timings.decode_s += time.perf_counter() - started
        yield from (piece for piece in pieces if piece.token_id is not None or piece.text)
    except (KeyboardInterrupt, GeneratorExit):
        request.interrupt()
        raise
    finally:
        session.resume()
