"""A request as its sender sees it: pieces as they come, the answer when it is finished, and a way to call it off."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from zoo.engine.generation import Generation, Piece


class Ticket:
    """A submitted request.

    Attributes:
        generation: the answer as it grows; its sender may read it, the scheduler writes it.
        submitted: ``time.perf_counter()`` of the submission; ``started``, ``first_token`` and ``finished`` alike, None
            until then.
        token_times: one for each token of the answer.
        cached_tokens: tokens of the prompt that had not to be computed.
        error: what went wrong, if something did.
    """

    def __init__(
        self,
        generation: Generation,
        wake: Callable[[], None],
        on_piece: Callable[[Piece], None] | None = None,
        on_done: Callable[[Ticket], None] | None = None,
    ) -> None:
        self.generation = generation
        self.submitted = time.perf_counter()
        self.started: float | None = None
        self.first_token: float | None = None
        self.finished: float | None = None
        self.token_times: list[float] = []
        self.cached_tokens = 0
        self.error: Exception | None = None
        self.cancelled = False
        self._wake = wake
        self._on_piece = on_piece
        self._on_done = on_done
        self._pieces: queue.SimpleQueue[Piece | None] = queue.SimpleQueue()
        self._done = threading.Event()

    def cancel(self) -> None:
        """Call the request off: its slot is free before the next step. A finished one is left as it is."""
        self.cancelled = True
        self._wake()

    def result(self, timeout: float | None = None) -> Generation:
        """Wait for the whole answer.

        Args:
            timeout: seconds to wait at most.

        Raises:
            TimeoutError: it is not finished yet.
            ZooError: it cannot be finished.
        """
        if not self._done.wait(timeout):
            raise TimeoutError("the answer is not finished yet")
        if self.error is not None:
            raise self.error
        return self.generation

    def __iter__(self) -> Iterator[Piece]:
        """Wait for pieces, one by one; only without ``on_piece``.

        Raises:
            ZooError: the answer cannot be finished.
        """
        while (piece := self._pieces.get()) is not None:
            yield piece
        if self.error is not None:
            raise self.error

    def deliver(self, piece: Piece, now: float) -> None:
        """Hand a piece out; for the scheduler."""
        if piece.token_id is not None:
            self.token_times.append(now)
        if piece.token_id is None and not piece.text and piece.logprob is None:
            return
        if self._on_piece is not None:
            self._on_piece(piece)
        else:
            self._pieces.put(piece)

    def finish(self, error: Exception | None = None) -> None:
        """End it; for the scheduler."""
        self.error = error
        self.finished = time.perf_counter()
        self._pieces.put(None)
        self._done.set()
        if self._on_done is not None:
            self._on_done(self)
