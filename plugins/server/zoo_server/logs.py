"""Structured logs: a JSON object a line on stderr, written by a thread of its own.

A reader of the log that falls behind costs lines, never answers: what does not fit in the queue, or comes too fast, is
counted and dropped.
"""

from __future__ import annotations

import json
import logging
import queue
import sys
import threading
import time
import traceback
from datetime import UTC, datetime
from typing import IO, Any

WAITING = 4096
"""Lines that wait to be written at most."""
BURST, RATE = 1000, 200
"""Lines of one kind of event that are written at once, and then a second, however many clients cause them."""


class Log:
    """Writes events; ``close`` waits a moment for what is not written yet."""

    def __init__(self, stream: IO[str] | None = None) -> None:
        self._stream = stream if stream is not None else sys.stderr
        # One that a signal's handler may use while it interrupts this very thread inside it.
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._dropped = 0
        self._left: dict[str, tuple[float, float]] = {}
        """Kind of event → lines that it may still write, and when that was so."""
        self._thread = threading.Thread(target=self._write, name="zoo-log", daemon=True)
        self._thread.start()

    def event(self, event: str, **fields: Any) -> None:
        """Write an event with its fields; never blocks."""
        now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        if self._lines.qsize() >= WAITING or not self._allowed(event):
            self._dropped += 1
            return
        if self._dropped:
            fields["dropped_lines"] = self._dropped
        line = json.dumps({"time": now, "event": event, **fields}, ensure_ascii=True, default=str)
        self._dropped = 0
        self._lines.put(line)

    def _allowed(self, event: str) -> bool:
        """Spend one line of those that this kind of event has left."""
        now = time.monotonic()
        left, at = self._left.get(event, (float(BURST), now))
        left = min(float(BURST), left + (now - at) * RATE)
        self._left[event] = (left - 1 if left >= 1 else left, now)
        return left >= 1

    def error(self, error: BaseException, **fields: Any) -> None:
        """Write an error that nobody expected, and the steps that led to it, without any file's path."""
        steps = [f"{_module(frame)}:{line}" for frame, line in traceback.walk_tb(error.__traceback__)][-12:]
        message = " ".join(str(error).split())[:300]
        self.event("error", error=type(error).__name__, message=message, steps=steps, **fields)

    def close(self) -> None:
        """Stop, when the lines so far are written or a second has passed."""
        self._lines.put(None)
        self._thread.join(1)

    def _write(self) -> None:
        while (line := self._lines.get()) is not None:
            try:
                self._stream.write(line + "\n")
                if self._lines.empty():
                    self._stream.flush()
            except (OSError, ValueError):  # nobody reads any more
                return


class Handler(logging.Handler):
    """Passes what libraries log on as events."""

    def __init__(self, log: Log) -> None:
        super().__init__(logging.WARNING)
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        """Write a library's message."""
        error = record.exc_info[1] if record.exc_info else None
        if error is not None:
            self._log.error(error, logger=record.name)
        else:
            self._log.event("library", logger=record.name, message=" ".join(record.getMessage().split())[:300])


def _module(frame: Any) -> str:
    return str(frame.f_globals.get("__name__", "?"))
