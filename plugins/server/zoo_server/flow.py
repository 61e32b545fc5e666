"""From the scheduler's thread to the event loop: pieces of an answer, gathered while nobody takes them.

What a slow reader leaves lying here is bounded by the answer itself: text is joined, not queued chunk by chunk.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class Delta:
    """What came of one choice since the last look."""

    index: int
    text: str = ""
    logprobs: list[Any] = field(default_factory=list)
    ticket: Any = None
    """Set once the choice is finished."""


class Flow:
    """Carries pieces of several choices to one consumer.

    Args:
        count: choices.
        on_finished: called in the event loop with the ticket of each choice that is finished.
    """

    def __init__(self, count: int, on_finished: Callable[[Any], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._pieces: deque[tuple[int, Any, Any]] = deque()
        self._event = asyncio.Event()
        self._scheduled = False
        self._open = count
        self._on_finished = on_finished

    def on_piece(self, index: int) -> Callable[[Any], None]:
        """Make the callback of a choice's pieces."""
        return lambda piece: self._put(index, piece, None)

    def on_done(self, index: int) -> Callable[[Any], None]:
        """Make the callback of a choice's end."""
        return lambda ticket: self._put(index, None, ticket)

    def _put(self, index: int, piece: Any, ticket: Any) -> None:
        """Take a piece in the scheduler's thread; one wake-up covers all that come until the loop gets to it."""
        self._pieces.append((index, piece, ticket))
        if ticket is not None or not self._scheduled:
            self._scheduled = True
            try:
                self._loop.call_soon_threadsafe(self._wake, ticket)
            except RuntimeError:  # the loop is closed: the server is gone
                self._pieces.clear()

    def _wake(self, ticket: Any) -> None:
        self._scheduled = False
        self._event.set()
        if ticket is not None:
            self._on_finished(ticket)

    async def deltas(self) -> AsyncIterator[list[Delta]]:
        """Yield what came, by choice, until all are finished."""
        while self._open:
            await self._event.wait()
            self._event.clear()
            by_choice: dict[int, Delta] = {}
            texts: dict[int, list[str]] = {}
            while self._pieces:
                index, piece, ticket = self._pieces.popleft()
                delta = by_choice.setdefault(index, Delta(index))
                if ticket is not None:
                    delta.ticket = ticket
                    self._open -= 1
                    continue
                texts.setdefault(index, []).append(piece.text)
                if piece.logprob is not None:
                    delta.logprobs.append(piece.logprob)
            for index, parts in texts.items():
                by_choice[index].text = "".join(parts)
            if by_choice:
                yield list(by_choice.values())
