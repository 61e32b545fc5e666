"""Texts of many requests, computed together: what waits is divided fairly, sorted by length and computed in batches."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from zoo.embedding.batches import TOKENS
from zoo.embedding.tokens import TextTokens
from zoo.engine.scheduler import QueueFull
from zoo.engine.seat import SchedulerStats
from zoo.errors import UsageError, ZooError

ROUND = 4 * TOKENS
"""Tokens that are computed before requests that came meanwhile join in."""
Compute = Callable[[Sequence[TextTokens]], "NDArray[np.float32]"]
"""Encoded texts → one row each."""


@dataclass(eq=False)
class _Job:
    """A request's texts, and their rows as they are computed."""

    texts: Sequence[TextTokens]
    future: Future[list[Any]]
    taken: int = 0
    """Texts that are computed, or being computed."""
    rows: list[Any] = field(default_factory=list)

    def take(self, tokens: int) -> list[TextTokens]:
        """Take the next texts, so many tokens of them but at least one."""
        first, held = self.taken, 0
        while self.taken < len(self.texts) and (held == 0 or held + len(self.texts[self.taken]) <= tokens):
            held += len(self.texts[self.taken])
            self.taken += 1
        return list(self.texts[first : self.taken])


class TextQueue:
    """Takes texts of any number of requests; its methods are for any thread (the ``RequestQueue`` protocol).

    Args:
        compute: what a round of texts is given to, in the queue's own thread.
        context: tokens that a text may have.
        waiting: requests that may wait; None for any number.
    """

    def __init__(self, compute: Compute, context: int, waiting: int | None = None) -> None:
        self.context = context
        self._compute, self._most = compute, waiting
        self._jobs: deque[_Job] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._counts = dict.fromkeys(("requests", "finished", "cancelled", "failed", "prompt_tokens", "steps"), 0)
        self._thread = threading.Thread(target=self._run, name="zoo-texts", daemon=True)
        self._thread.start()

    def submit(self, *args: Any, **wishes: Any) -> NoReturn:
        """Refuse a prompt: nothing is generated."""
        raise UsageError("this model embeds or ranks texts and generates nothing; ask /v1/embeddings or /v1/rerank")

    def submit_texts(self, texts: Sequence[TextTokens]) -> Future[list[Any]]:
        """Queue the texts of a request.

        Returns:
            Their rows, in order, when all are computed; cancelled, what is left of them is not computed.

        Raises:
            QueueFull: as many requests wait as may.
            ZooError: no more are taken.
        """
        job = _Job(texts, Future())
        with self._changed:
            if self._closed:
                raise ZooError("the queue is closed")
            if self._most is not None and len(self._jobs) >= self._most:
                raise QueueFull(f"{len(self._jobs)} requests wait already")
            self._counts["requests"] += 1
            if texts:
                self._jobs.append(job)
                self._changed.notify()
            else:
                job.future.set_result([])
        return job.future

    def stats(self) -> SchedulerStats:
        """Count what waits and what was done; a step is a round."""
        with self._changed:
            return SchedulerStats(
                slots=1, running=min(1, len(self._jobs)), waiting=max(0, len(self._jobs) - 1), cached_tokens=0,
                output_tokens=0, guessed_tokens=0, prefix_cache_bytes=0, cache_bytes=0, **self._counts,
            )  # fmt: skip

    def close(self, *, drain: bool = False) -> None:
        """Stop; with ``drain`` compute what was submitted first."""
        with self._changed:
            self._closed = True
            if not drain:
                for job in self._jobs:
                    job.future.cancel()
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        while (parts := self._next_round()) is not None:
            texts = [text for _, taken in parts for text in taken]
            try:
                rows: Sequence[Any] = self._compute(texts) if texts else []  # type: ignore[assignment]
            except BaseException as error:
                self._fail(parts, error)
                continue
            at = 0
            for job, taken in parts:
                job.rows += list(rows[at : at + len(taken)])
                at += len(taken)
            self._settle(sum(map(len, texts)))

    def _next_round(self) -> list[tuple[_Job, list[TextTokens]]] | None:
        """Wait for requests and take a fair share of each; None when the queue is closed and empty."""
        with self._changed:
            while True:
                self._drop()
                if self._jobs:
                    share = max(1, ROUND // len(self._jobs))
                    return [(job, job.take(share)) for job in self._jobs]
                if self._closed:
                    return None
                self._changed.wait()

    def _drop(self) -> None:
        """Forget requests that nobody waits for any more."""
        for job in [job for job in self._jobs if job.future.cancelled()]:
            self._jobs.remove(job)
            self._counts["cancelled"] += 1

    def _settle(self, tokens: int) -> None:
        """Hand out what is finished."""
        with self._changed:
            self._counts["steps"] += 1
            self._counts["prompt_tokens"] += tokens
            finished = [job for job in self._jobs if len(job.rows) == len(job.texts)]
            for job in finished:
                self._jobs.remove(job)
                self._counts["finished" if job.future.set_running_or_notify_cancel() else "cancelled"] += 1
        for job in finished:
            if not job.future.cancelled():
                job.future.set_result(job.rows)

    def _fail(self, parts: Sequence[tuple[_Job, Any]], error: BaseException) -> None:
        """Tell all whose texts were in a round that it failed."""
        with self._changed:
            for job, _ in parts:
                self._jobs.remove(job)
                self._counts["failed"] += 1
        for job, _ in parts:
            if job.future.set_running_or_notify_cancel():
                job.future.set_exception(error)
