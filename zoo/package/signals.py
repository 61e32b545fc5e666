"""SIGINT and SIGTERM end a build between two slabs, not in the middle of one."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from zoo.errors import ZooError


class Stopped(ZooError):
    """A build that was asked to stop; its finished work is kept."""

    def __init__(self, number: int) -> None:
        super().__init__("stopped; finished work is kept, the same command continues from there")
        self.exit_code = 128 + number


class Signals:
    """Whether the work should stop, and which signal said so."""

    def __init__(self) -> None:
        self.stop = threading.Event()
        self.number: int = signal.SIGINT

    def error(self) -> Stopped:
        """The error to end with."""
        return Stopped(self.number)


@contextmanager
def listening() -> Iterator[Signals]:
    """Let SIGINT and SIGTERM set ``stop`` instead of ending the process, where this is the main thread."""
    signals = Signals()
    if threading.current_thread() is not threading.main_thread():
        yield signals
        return

    def handle(number: int, frame: Any) -> None:
        signals.number = number
        signals.stop.set()

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield signals
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
