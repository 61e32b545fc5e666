"""Continuous batching: many requests over one session, joining and leaving between steps.

A thread of its own runs the steps. Each round starts waiting requests where slots are free, and brings every answer
under way on by a step, which computes a part of the prompts that wait as well: weights are read once for all of them,
and a long prompt holds nobody up for longer than such a step takes.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from zoo.engine.decoding import decode
from zoo.engine.generation import AHEAD, ActiveRequest, Generation, Limits, Piece
from zoo.engine.logprobs import text_logprobs
from zoo.engine.machine import free_memory
from zoo.engine.prefixes import PrefixCache
from zoo.engine.sampling import Sampling
from zoo.engine.seat import SchedulerStats, Seat
from zoo.engine.session import MAX_CHUNK, Row
from zoo.engine.steps import compute
from zoo.engine.ticket import Ticket
from zoo.errors import ZooError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from zoo.contracts.constraint import Constraint
    from zoo.engine.engine import OrtEngine

STALL_SECONDS = 0.13
"""How long a step that computes a part of a prompt may take where answers wait for their next token."""
SHARED = (8, 128)
"""The fewest and the most tokens of prompts in such a step."""
WIDEST = 16
"""Tokens of a decode step, guesses included; past that a step costs more than it brings."""
CACHE_SHARE = 0.5
"""Share of the free memory that the KV caches of all slots may grow to."""
PREFIX_SHARE = 0.1
"""Share of the free memory that texts computed before may take, unless the caller says how much."""


class QueueFull(ZooError):
    """As many requests wait as may."""


class Scheduler:
    """Runs requests over an engine, many at a time.

    Args:
        engine: an opened package; its own calls may be mixed with requests, and wait for a step at most.
        slots: how many requests run at once.
        waiting: how many more may wait; None for any number.
        prefix_cache_bytes: memory for texts computed before; 0 for none, None for a share of what is free.
        lookup: guess tokens from the text so far (prompt lookup). Greedy answers stay what they are.
        cache_bytes: memory that the slots' KV caches may grow to; None for a share of what is free.

    Attributes:
        context: tokens that one request's prompt and answer may have together, here.
    """

    def __init__(
        self,
        engine: OrtEngine,
        *,
        slots: int = 8,
        waiting: int | None = None,
        prefix_cache_bytes: int | None = None,
        lookup: bool = False,
        cache_bytes: int | None = None,
    ) -> None:
        if slots < 1:
            raise ValueError("at least one slot")
        self._engine = engine
        self._session = session = engine.session
        free = free_memory()
        room = int(free * CACHE_SHARE) if cache_bytes is None else cache_bytes
        self.context = min(engine.context_length, room // (slots * engine.token_bytes))
        if self.context < 2:
            raise ZooError(
                f"{slots} slots leave {room / 1e9:.2f} GB for keys and values, less than two tokens each; use fewer"
            )
        self._slots = session.new_slots(slots)
        kept = int(free * PREFIX_SHARE) if prefix_cache_bytes is None else prefix_cache_bytes
        self._prefixes = PrefixCache(kept, session.token_bytes)
        self._draft = engine.new_draft(slots)
        self._lookup = lookup
        self._tie = engine.batching_effect if lookup or self._draft is not None else 0.0
        self._most_waiting = waiting
        self._waiting: deque[tuple[Ticket, ActiveRequest]] = deque()
        self._seats: dict[int, Seat] = {}
        self._counts = dict.fromkeys(
            ("requests", "finished", "cancelled", "failed", "prompt_tokens", "cached_tokens", "output_tokens",
             "guessed_tokens", "steps"), 0,
        )  # fmt: skip
        self._token_seconds = 0.0  # of a prompt, in its last step
        self._condition = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="zoo-scheduler", daemon=True)
        self._thread.start()

    def __enter__(self) -> Scheduler:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def submit(
        self,
        prompt_ids: Sequence[int],
        limits: Limits = Limits(),
        sampling: Sampling = Sampling(),
        *,
        logprobs: int | None = None,
        prompt_logprobs: int | None = None,
        end_logprob: bool = False,
        constraint: Constraint | None = None,
        visible: frozenset[int] = frozenset(),
        on_piece: Callable[[Piece], None] | None = None,
        on_done: Callable[[Ticket], None] | None = None,
    ) -> Ticket:
        """Queue a request; for any thread.

        Args:
            prompt_ids: the prompt.
            limits: when the answer ends.
            sampling: how tokens are chosen.
            logprobs: name each token's log probability, and those of so many of the likeliest.
            prompt_logprobs: the same of the prompt's tokens, all but the first; none of it comes from the prefix cache.
            end_logprob: a piece names the log probability of the token that ended the answer, too.
            constraint: what the answer may be.
            visible: special tokens whose names are part of the text.
            on_piece: called with each piece, in the scheduler's thread; it must not block.
            on_done: called at the end, likewise.

        Raises:
            QueueFull: as many wait as may.
            UsageError: a token that is none.
            ZooError: the prompt does not fit, or the scheduler is closed.
        """
        ids = self._engine.check_prompt(prompt_ids)
        if len(ids) >= self.context:
            raise ZooError(
                f"the prompt has {len(ids)} tokens; with {len(self._slots)} requests at a time there is memory for "
                f"{self.context} tokens of prompt and answer"
            )
        generation = Generation(ids)
        generation.timings.load_s = self._engine.load_seconds
        request = ActiveRequest(
            generation, limits, sampling, self.context, self._engine.tokenizer, logprobs=logprobs,
            prompt_logprobs=prompt_logprobs, end_logprob=end_logprob, constraint=constraint, visible=visible,
            tie=self._tie, lookup=self._lookup, pace=None if self._draft is None else self._draft.pace(),
        )  # fmt: skip
        ticket = Ticket(generation, self._wake, on_piece, on_done)
        with self._condition:
            if self._closing:
                raise ZooError("no more requests are taken: the engine is being closed")
            free = len(self._slots) - len(self._seats)
            if self._most_waiting is not None and len(self._waiting) - free >= self._most_waiting:
                raise QueueFull(f"{len(self._waiting)} requests wait already; try again later")
            self._counts["requests"] += 1
            self._waiting.append((ticket, request))
            self._condition.notify()
        return ticket

    def stats(self) -> SchedulerStats:
        """Count what runs and what was done; for any thread."""
        with self._condition:
            return SchedulerStats(
                slots=len(self._slots),
                running=len(self._seats),
                waiting=len(self._waiting),
                prefix_cache_bytes=self._prefixes.nbytes,
                cache_bytes=self._slots.nbytes,
                **self._counts,
            )

    def close(self, *, drain: bool = False) -> None:
        """Stop, and wait until the thread has ended.

        Args:
            drain: let what was submitted finish first; otherwise it ends as it is, ``interrupt``.
        """
        with self._condition:
            self._closing = True
            if not drain:
                for seat in self._seats.values():
                    seat.ticket.cancelled = True
                for ticket, _ in self._waiting:
                    ticket.cancelled = True
            self._condition.notify()
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def _wake(self) -> None:
        with self._condition:
            self._condition.notify()

    def _run(self) -> None:
        """Go round until closed and empty."""
        error: Exception | None = None
        try:
            while self._wait_for_work():
                self._leave()
                self._join()
                self._advance()
        except Exception as problem:  # a defect of ours: nobody may wait for ever
            error = problem
        with self._condition:
            self._closing = True
            left = [(seat.ticket, seat.request) for seat in self._seats.values()] + list(self._waiting)
            self._seats.clear()
            self._waiting.clear()
        for ticket, request in left:
            request.interrupt()
            ticket.finish(error)

    def _wait_for_work(self) -> bool:
        with self._condition:
            while not (self._seats or self._waiting):
                if self._closing:
                    return False
                self._condition.wait()
            return True

    def _leave(self) -> None:
        """Let go of what was called off."""
        with self._condition:
            gone = [one for one in self._waiting if one[0].cancelled]
            if gone:
                self._waiting = deque(one for one in self._waiting if not one[0].cancelled)
            seats = [seat for seat in self._seats.values() if seat.ticket.cancelled]
            self._counts["cancelled"] += len(gone)
        for ticket, request in gone:
            request.interrupt()
            ticket.finish()
        for seat in seats:
            seat.request.interrupt()
            self._free(seat, "cancelled")

    def _join(self) -> None:
        """Give waiting requests the free slots."""
        while True:
            with self._condition:
                if not self._waiting or len(self._seats) == len(self._slots):
                    return
                ticket, request = self._waiting.popleft()
                slot = next(one for one in range(len(self._slots)) if one not in self._seats)
                seat = self._seats[slot] = Seat(ticket, request, slot)
            ticket.started = time.perf_counter()
            prompt = seat.prompt
            try:
                self._slots.reserve(min(self.context, len(prompt) + min(request.room, AHEAD)))
                if request.prompt_logprobs is None:
                    ticket.cached_tokens = self._prefixes.restore(self._slots, slot, prompt)
            except ZooError as error:
                self._free(seat, "failed", error)
                continue
            ticket.generation.timings.prefill_tokens = len(prompt) - ticket.cached_tokens
            self._count(prompt_tokens=len(prompt), cached_tokens=ticket.cached_tokens)

    def _advance(self) -> None:
        """Bring every answer on by a step, and with it the prompts that came first."""
        answering = [seat for seat in self._seats.values() if seat.decoding]
        filling = [seat for seat in self._seats.values() if not seat.decoding]
        filling.sort(key=lambda seat: seat.ticket.started or 0.0)
        if filling and (top := filling[0].request.prompt_logprobs) is not None:
            self._score(filling[0], top)
            filling = []
        parts = self._parts(filling, len(answering))
        if parts and answering and not self._share(parts, len(answering)):
            self._step([], parts)
            parts = []
        if answering or parts:
            self._step(answering, parts)

    def _parts(self, filling: list[Seat], answering: int) -> list[tuple[Seat, list[int]]]:
        """Choose what a step computes of prompts: of the first, and of the next ones as long as there is room."""
        parts: list[tuple[Seat, list[int]]] = []
        room = self._short_step(answering) if answering else MAX_CHUNK
        for seat in filling:
            done = len(self._slots.tokens[seat.slot])
            part = seat, seat.prompt[done : done + min(room, self._session.chunk(done))]
            if parts and (seat.request.prompt_logprobs is not None or not self._share([*parts, part])):
                break
            parts.append(part)
            room -= len(part[1])
            if not room:
                break
        return parts

    def _share(self, parts: list[tuple[Seat, list[int]]], answering: int = 0) -> bool:
        """Tell whether parts of prompts go into one step, with so many answers."""
        past = max(map(len, self._slots.tokens))
        return self._session.share(answering + len(parts), max(len(ids) for _, ids in parts), past)

    def _short_step(self, answering: int) -> int:
        """Return how many tokens of prompts a step takes beside answers, by the speed of the last such step."""
        fewest, most = SHARED
        tokens = int(STALL_SECONDS / self._token_seconds) - answering if self._token_seconds else most
        return min(most, max(fewest, tokens // 4 * 4))

    def _score(self, seat: Seat, top: int) -> None:
        """Compute the next chunk of a prompt whose log probabilities are wanted, as an evaluation computes it."""
        prompt, generation = seat.prompt, seat.ticket.generation
        if seat.scored is None:
            seat.scored = compute(self._session, self._slots, seat.slot, prompt, 0, len(prompt))
        try:
            block = next(seat.scored)
            self._count(steps=1)
            known = len(generation.prompt_logprobs)
            generation.prompt_logprobs += text_logprobs([block], prompt[known:], top)
            if known + len(block) == len(prompt):
                last = block[-1].copy()
                next(seat.scored, None)
                self._begin(seat, last)
        except ZooError as error:
            self._free(seat, "failed", error)

    def _begin(self, seat: Seat, logits: NDArray[np.float32]) -> None:
        """Choose the first token of an answer, after its prompt."""
        piece = seat.request.accept(logits)
        now = seat.ticket.first_token = time.perf_counter()
        seat.ticket.generation.timings.prefill_s = now - seat.ticket.submitted
        self._hand_out(seat, [piece], now)

    def _step(self, answering: list[Seat], parts: list[tuple[Seat, list[int]]]) -> None:
        """Compute one step of answers and parts of prompts."""
        started = time.perf_counter()
        try:
            decoded = decode(
                self._session, self._slots, {seat.slot: seat.request for seat in answering},
                prompts=[Row(seat.slot, ids) for seat, ids in parts],
                guesses=max(0, WIDEST // len(answering) - 1) if answering else 0,
                draft=self._draft,
            )  # fmt: skip
        except ZooError as error:
            for seat in (*answering, *(seat for seat, _ in parts)):
                self._free(seat, "failed", error)
            return
        now = time.perf_counter()
        self._count(steps=1)
        if parts and (answering or not self._token_seconds):
            self._token_seconds = (now - started) / (len(answering) + sum(len(ids) for _, ids in parts))
        for seat, _ in parts:
            if len(self._slots.tokens[seat.slot]) < len(seat.prompt):
                continue
            self._prefixes.keep(self._slots, seat.slot)
            try:
                self._begin(seat, decoded.prompts[seat.slot])
            except ZooError as error:
                self._free(seat, "failed", error)
        for seat in answering:
            pieces, problem = decoded.answers[seat.slot]
            if problem is not None:
                self._free(seat, "failed", problem)
                continue
            self._count(guessed_tokens=max(0, len(pieces) - 1))
            self._hand_out(seat, pieces, now)

    def _hand_out(self, seat: Seat, pieces: list[Piece], now: float) -> None:
        timings = seat.ticket.generation.timings
        timings.decode_tokens = max(0, len(seat.ticket.token_times) + len(pieces) - 1)
        if seat.ticket.first_token is not None:
            timings.decode_s = now - seat.ticket.first_token
        self._count(output_tokens=sum(piece.token_id is not None for piece in pieces))
        for piece in pieces:
            seat.ticket.deliver(piece, now)
        if seat.request.finished:
            self._prefixes.keep(self._slots, seat.slot)
            self._free(seat, "finished")

    def _free(self, seat: Seat, how: str, error: Exception | None = None) -> None:
        """End a request and give its slot back."""
        self._slots.keep(seat.slot, 0)
        with self._condition:
            del self._seats[seat.slot]
            self._counts[how] += 1
        seat.ticket.finish(error)

    def _count(self, **more: int) -> None:
        with self._condition:
            for key, value in more.items():
                self._counts[key] += value
