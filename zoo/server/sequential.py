"""One request after the other over an engine, behind the interface that a scheduler of many will have."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from zoo.engine import Engine, Generation, Piece, Sampling
from zoo.engine.generation import Limits


@dataclass
class Ticket:
    """A request under way."""

    prompt_ids: list[int]
    limits: Limits
    sampling: Sampling
    on_piece: Callable[[Piece], None] | None
    on_done: Callable[[Ticket], None] | None
    generation: Generation
    submitted: float = field(default_factory=time.perf_counter)
    started: float | None = None
    first_token: float | None = None
    finished: float | None = None
    token_times: list[float] = field(default_factory=list)
    cached_tokens: int = 0
    error: Exception | None = None
    cancelled: bool = False

    def cancel(self) -> None:
        """End the request at its next token."""
        self.cancelled = True


@dataclass
class Stats:
    """What runs and waits, and totals."""

    running: int = 0
    waiting: int = 0
    slots: int = 1
    prompt_tokens: int = 0
    output_tokens: int = 0


class Sequential:
    """Runs requests in the order in which they came, in a thread of its own."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._queue: queue.Queue[Ticket | None] = queue.Queue()
        self._stats = Stats()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def submit(
        self,
        prompt_ids: Sequence[int],
        limits: Limits = Limits(),
        sampling: Sampling = Sampling(),
        *,
        logprobs: int | None = None,
        on_piece: Callable[[Piece], None] | None = None,
        on_done: Callable[[Any], None] | None = None,
    ) -> Ticket:
        """Put a request at the end of the queue."""
        ids = self._engine._prompt_ids(list(prompt_ids), None)
        ticket = Ticket(ids, limits, sampling, on_piece, on_done, Generation(ids))
        self._queue.put(ticket)
        return ticket

    def stats(self) -> Stats:
        """Report."""
        self._stats.waiting = self._queue.qsize()
        return self._stats

    def close(self, *, drain: bool = False) -> None:
        """End after the requests that are here."""
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (ticket := self._queue.get()) is not None:
            self._stats.running = 1
            try:
                self._one(ticket)
            except Exception as error:
                ticket.error = error
            self._stats.running = 0
            ticket.finished = time.perf_counter()
            if ticket.on_done:
                ticket.on_done(ticket)

    def _one(self, ticket: Ticket) -> None:
        ticket.started = time.perf_counter()
        sampling, limits = ticket.sampling, ticket.limits
        stream = self._engine.stream(
            ticket.prompt_ids, max_new_tokens=limits.max_new_tokens, temperature=sampling.temperature,
            top_k=sampling.top_k, top_p=sampling.top_p, repetition_penalty=sampling.repetition_penalty,
            seed=sampling.seed, stop=limits.stop, stop_token_ids=tuple(limits.stop_token_ids), ignore_eos=True,
        )  # fmt: skip
        ticket.generation = stream.generation
        self._stats.prompt_tokens += len(ticket.prompt_ids)
        for piece in stream:
            ticket.token_times.append(time.perf_counter())
            ticket.first_token = ticket.first_token or ticket.token_times[0]
            self._stats.output_tokens += 1
            if ticket.on_piece:
                ticket.on_piece(piece)
            if ticket.cancelled:
                stream.close()
                break
