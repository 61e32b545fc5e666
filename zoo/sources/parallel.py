"""Several waits at once, which an interrupt ends at once."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from typing import TypeVar

A = TypeVar("A")
B = TypeVar("B")

THREADS = 4
_FAREWELL = 1.0
"""Seconds that threads get to end by themselves; a read from a silent server may take its whole timeout."""


def each(work: Callable[[A], B], items: Sequence[A], stop: threading.Event | None = None) -> list[B]:
    """Do some work on every item, a few at once, in the order given; results come in that order.

    The first failure, or an interrupt, sets ``stop`` and is raised; work that looks at ``stop`` ends early. Threads are
    daemons, so one that hangs in a read keeps no command from ending.
    """
    stop = stop or threading.Event()
    todo: queue.SimpleQueue[int] = queue.SimpleQueue()
    done: queue.SimpleQueue[tuple[int, B | None, BaseException | None]] = queue.SimpleQueue()
    for index in range(len(items)):
        todo.put(index)

    def run() -> None:
        while not stop.is_set():
            try:
                index = todo.get_nowait()
            except queue.Empty:
                return
            try:
                done.put((index, work(items[index]), None))
            except BaseException as error:
                done.put((index, None, error))

    threads = [threading.Thread(target=run, name="zoo-fetch", daemon=True) for _ in range(min(THREADS, len(items)))]
    results: dict[int, B] = {}
    try:
        for thread in threads:
            thread.start()
        for _ in items:
            index, result, error = done.get()
            if error is not None:
                raise error
            results[index] = result  # type: ignore[assignment]
    except BaseException:
        stop.set()
        for thread in threads:
            thread.join(_FAREWELL / len(threads))
        raise
    return [results[index] for index in range(len(items))]
