"""An engine that is another program's server: it computes and samples, and text is ours."""

from __future__ import annotations

import logging
import threading
import time
from abc import abstractmethod
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Unpack

import numpy as np

from zoo.contracts.engine import require
from zoo.engine.engine import Stream
from zoo.engine.generation import ActiveRequest, Generation, Limits, Piece
from zoo.engine.machine import free_memory
from zoo.engine.options import read_form, read_options
from zoo.engine.sampling import Sampling
from zoo.engine.scheduler import QueueFull
from zoo.engine.seat import SchedulerStats
from zoo.engine.ticket import Ticket
from zoo.engine.worded import TextEngine
from zoo.errors import EngineEnded, ZooError
from zoo.package.running import half_kv_bytes

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from zoo.contracts.engine import Ability
    from zoo.engine.chat import Message
    from zoo.engine.logprobs import TokenLogprob
    from zoo.engine.options import AnswerOptions
    from zoo.engine.server_process import ServerProcess
    from zoo.package.folder import Package

log = logging.getLogger("zoo")

Chosen = tuple[int, "TokenLogprob | None"]
"""A token, and its log probability where it was asked for."""
CACHE_SHARE = 0.5
"""Of the free memory, for keys and values where nobody says how much."""
PAUSE = 30.0
"""Seconds from one start of a program that ended to the next."""


class ServerEngine(TextEngine):
    """A package that another program serves to this process alone.

    Attributes:
        threads: as asked for.
        prefixes: the program may keep what it computed of other requests' beginnings.

    A class of it starts the program (``start``), asks it (``tokens``) and, where it ``can`` give ``logits``, asks for a
    ``row`` of them. ``open`` starts it for one request at a time; ``queue`` starts it again for as many as are wanted.
    One that died, or was ended since it hung, is started again by the next request.
    """

    can: ClassVar[frozenset[Ability]] = frozenset({"batches", "logprobs"})
    spared: ClassVar[int] = 0
    """Tokens of the context that the program does not fill."""

    def __init__(self, package: Package, threads: int | None = None) -> None:
        super().__init__(package)
        self.threads, self.prefixes = threads, True
        self.token_bytes = half_kv_bytes(package.manifest.recipe.architecture)
        self.vocab_size = package.manifest.recipe.architecture.vocab_size
        words: set[Ability] = {"text"} if self.tokenizer is not None else set()
        self.abilities = self.can | words | ({"chat"} if words and self.chat_templates else set())
        self.server: ServerProcess | None = None
        self._starting, self._not_before = threading.Lock(), 0.0
        self._restart(1, None)

    @classmethod
    def open(cls, package: Package, *, threads: int | None = None) -> ServerEngine:
        """Start the program over a package.

        Raises:
            ZooError: it is not installed (with the command that installs it), is too old, or does not open the package.
        """
        return cls(package, threads)

    @abstractmethod
    def start(self, slots: int, context: int) -> ServerProcess:
        """Start the program.

        Args:
            slots: requests that it answers at once.
            context: tokens of each, prompt and answer.
        """

    @abstractmethod
    def tokens(
        self, ids: list[int], limits: Limits, sampling: Sampling, logprobs: int | None
    ) -> Generator[Chosen, None, bool]:
        """Ask for an answer; closing the generator calls it off.

        Args:
            logprobs: how many of the likeliest tokens to name beside each token's own; None for no such thing.

        Returns:
            Whether the program ended the answer because the model did, not for its length.
        """

    def row(self, ids: list[int]) -> Iterable[tuple[int, float]]:
        """Ask for the model's own log probability of every token that may follow, for an engine with ``logits``."""
        raise NotImplementedError

    def logits(self, token_ids: Sequence[int], positions: int | Literal["all"] = "all") -> NDArray[np.float32]:
        """Compute log probabilities, which are logits less a constant of their row: one request a position.

        Writing and reading a row of 50,000 tokens takes either side some tenth of a second, longer than computing it
        does, so the program writes one while the one before is read.
        """
        ids = self._check_ids(token_ids)
        if len(ids) > min(self.longest_text, self.context_length):
            raise ZooError(f"the text has {len(ids)} tokens; the model takes at most {self.context_length}")
        self._revive()
        count = len(ids) if positions == "all" else min(positions, len(ids))
        result = np.full((count, self.vocab_size), -np.inf, np.float32)
        server, pool = self.running(), ThreadPoolExecutor(2, "zoo-rows")

        def fill(at: int) -> None:
            for token, logprob in self.row(ids[: len(ids) - count + 1 + at]):
                result[at, token] = logprob

        try:
            for _ in pool.map(fill, range(count)):
                pass
        except (KeyError, ValueError, TypeError, IndexError) as error:
            raise server.misread(error) from None
        finally:
            pool.shutdown(cancel_futures=True)
        return result

    def running(self) -> ServerProcess:
        """Get the running program.

        Raises:
            ZooError: the engine was closed.
        """
        if self.server is None:
            raise ZooError(f"{self.name} was closed")
        return self.server

    def _restart(self, slots: int, cache_bytes: int | None) -> None:
        room = int(free_memory() * CACHE_SHARE) if cache_bytes is None else cache_bytes
        arch = self.package.manifest.recipe.architecture
        context = min(arch.context_length, room // (slots * self.token_bytes))
        if context < 2:
            raise ZooError(f"{slots} slots leave {room / 1e9:.2f} GB for keys and values, less than two tokens each")
        self.close()
        self._start(slots, context)

    def _start(self, slots: int, context: int) -> None:
        started = time.perf_counter()
        self.server = self.start(slots, context)
        self.context_length, self.load_seconds = context - self.spared, time.perf_counter() - started
        self.slots = slots

    def _revive(self) -> None:
        """Start the program again if it ended by itself.

        Raises:
            EngineEnded: it was started again just now, or does not start.
        """
        with self._starting:
            if self.server is None or not self.server.ended:
                return
            left = self._not_before - time.monotonic()
            if left > 0:
                raise EngineEnded(f"{self.name} ended once more; it is started again in {left:.0f} s at the earliest")
            log.warning("%s ended; it is started again for %s", self.name, self.package.path.name)
            try:
                self._start(self.slots, self.context_length + self.spared)
            except ZooError as error:
                raise EngineEnded(str(error)) from error
            finally:
                self._not_before = time.monotonic() + PAUSE

    def close(self) -> None:
        """End the program."""
        with self._starting:
            if self.server is not None:
                self.server.close()
                self.server = None

    def stream(
        self,
        prompt: str | Sequence[int] | None = None,
        *,
        messages: Sequence[Message] | None = None,
        continued: bool = False,
        **options: Unpack[AnswerOptions],
    ) -> Stream:
        """Answer a prompt piece by piece; see ``Engine.stream``."""
        limits, sampling = read_options(options, self.stop_token_ids)
        self._check_ids([token for token, _ in sampling.logit_bias])
        if read_form(options) is not None:
            require(self, "forms", "a form of the answer")
        if options.get("lookup"):
            require(self, "lookup", "prompt lookup")
        generation = Generation(self._prompt_ids(prompt, messages))
        return Stream(generation, self.answer(generation, limits, sampling))

    def answer(
        self, generation: Generation, limits: Limits, sampling: Sampling, logprobs: int | None = None, **text: Any
    ) -> Generator[Piece, None, None]:
        """Fill an answer; ``text`` are keywords of ``ActiveRequest`` that say what becomes of its text."""
        timings, started = generation.timings, time.perf_counter()
        timings.load_s, timings.prefill_tokens = self.load_seconds, len(generation.prompt_ids)
        self._revive()
        request = ActiveRequest(generation, limits, sampling, self.context_length, self.tokenizer, **text)
        asked = Limits(request.room, limits.stop, limits.stop_token_ids)
        chosen = self.tokens(generation.prompt_ids, asked, sampling, logprobs)
        try:
            ended = False
            while not request.finished:
                try:
                    token, logprob = next(chosen)
                except StopIteration as stop:
                    ended = bool(stop.value)
                    break
                now = time.perf_counter()
                if timings.prefill_s:
                    timings.decode_s, timings.decode_tokens = now - started, timings.decode_tokens + 1
                else:
                    timings.prefill_s, started = now - started, now
                yield request.take(token, logprob)
            last = request.end("stop" if ended else "length")
            if last.text:
                yield last
        except (KeyboardInterrupt, GeneratorExit):
            request.interrupt()
            raise
        finally:
            chosen.close()

    def queue(
        self,
        *,
        slots: int,
        waiting: int | None = None,
        prefix_cache_bytes: int | None = None,
        cache_bytes: int | None = None,
        lookup: bool = False,
    ) -> ServerQueue:
        """Begin to take requests; the program keeps prefixes as it likes, or none."""
        if lookup:
            require(self, "lookup", "prompt lookup")
        before, self.prefixes = self.prefixes, prefix_cache_bytes != 0
        if slots != self.slots or cache_bytes is not None or self.prefixes != before:
            self._restart(slots, cache_bytes)
        return ServerQueue(self, slots, waiting)


class ServerQueue:
    """Requests of many senders (the ``RequestQueue`` protocol): a thread follows each that runs."""

    def __init__(self, engine: ServerEngine, slots: int, waiting: int | None) -> None:
        self._engine, self._slots, self._most_waiting = engine, slots, waiting
        self.context = engine.context_length
        self._pool = ThreadPoolExecutor(slots, "zoo-served")
        self._lock = threading.Lock()
        self._open: set[Ticket] = set()
        self._closing = False
        self._counts = dict.fromkeys(
            ("requests", "finished", "cancelled", "failed", "prompt_tokens", "output_tokens", "running"), 0
        )

    def submit(
        self,
        prompt_ids: Sequence[int],
        limits: Limits = Limits(),
        sampling: Sampling = Sampling(),
        *,
        on_piece: Callable[[Piece], None] | None = None,
        on_done: Callable[[Ticket], None] | None = None,
        constraint: object = None,
        prompt_logprobs: int | None = None,
        **wishes: Any,
    ) -> Ticket:
        """Queue a request; see ``Scheduler.submit``.

        Raises:
            QueueFull: as many wait as may.
            ZooError: the prompt does not fit, or what is asked for the engine does not do.
        """
        if constraint is not None:
            require(self._engine, "forms", "a form of the answer")
        if prompt_logprobs is not None:
            raise ZooError(f"log probabilities of a prompt: the engine {self._engine.name!r} gives none")
        generation = Generation(self._engine.check_prompt(prompt_ids))
        ticket = Ticket(generation, lambda: None, on_piece, on_done)
        with self._lock:
            if self._closing:
                raise ZooError("no more requests are taken: the engine is being closed")
            waiting = len(self._open) - self._slots
            if self._most_waiting is not None and waiting >= self._most_waiting:
                raise QueueFull(f"{waiting} requests wait already; try again later")
            self._open.add(ticket)
            self._counts["requests"] += 1
        self._pool.submit(self._run, ticket, limits, sampling, wishes)
        return ticket

    def _run(self, ticket: Ticket, limits: Limits, sampling: Sampling, wishes: dict[str, Any]) -> None:
        generation, error, how = ticket.generation, None, "finished"
        ticket.started = time.perf_counter()
        self._count(running=1)
        pieces = self._engine.answer(generation, limits, sampling, **wishes)
        try:
            for piece in () if ticket.cancelled else pieces:
                now = time.perf_counter()
                ticket.first_token = ticket.first_token or now
                ticket.deliver(piece, now)
                if ticket.cancelled:
                    break
        except Exception as problem:  # nobody may wait for ever
            error, how = problem, "failed"
        pieces.close()
        if generation.finish_reason is None:
            generation.finish_reason = "interrupt"
        if ticket.cancelled and error is None:
            how = "cancelled"
        self._count(
            running=-1, prompt_tokens=len(generation.prompt_ids), output_tokens=len(generation.token_ids), **{how: 1}
        )
        with self._lock:
            self._open.discard(ticket)
        ticket.finish(error)

    def _count(self, **changes: int) -> None:
        with self._lock:
            for name, change in changes.items():
                self._counts[name] += change

    def stats(self) -> SchedulerStats:
        """Count what runs and what was done."""
        with self._lock:
            counts = dict(self._counts)
            waiting = len(self._open) - counts["running"]
        return SchedulerStats(
            slots=self._slots, waiting=waiting, cached_tokens=0, guessed_tokens=0, steps=counts["output_tokens"],
            prefix_cache_bytes=0, cache_bytes=0, **counts,
        )  # fmt: skip

    def close(self, *, drain: bool = False) -> None:
        """Stop; with ``drain`` let what was submitted finish first."""
        with self._lock:
            self._closing = True
            for ticket in () if drain else self._open:
                ticket.cancelled = True
        self._pool.shutdown(wait=True)
