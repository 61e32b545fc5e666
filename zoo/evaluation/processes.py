"""Workers that are processes of this machine."""

from __future__ import annotations

import multiprocessing
import signal
from multiprocessing.connection import Connection, wait
from typing import Any

from zoo.engine.machine import usable_cores
from zoo.errors import ZooError
from zoo.evaluation.crew import Job, Reply, do_job
from zoo.evaluation.scorer import LocalScorer, OpenEngine


class ProcessCrew:
    """Processes that share this machine's cores, each with the package open and a pipe to this one."""

    def __init__(self, opener: OpenEngine, count: int) -> None:
        self._opener = opener
        self._count = count
        self._threads = max(1, usable_cores() // count)
        self._context = multiprocessing.get_context("spawn")  # a fork would inherit onnxruntime's threads half alive
        self._pipes: dict[int, Connection] = {}
        self._processes: dict[int, Any] = {}

    def members(self) -> list[int]:
        """Start the processes, where they are not, and list them."""
        for number in range(self._count):
            if number not in self._pipes:
                self._start(number)
        return list(self._pipes)

    def give(self, member: int, job: Job) -> None:
        """Send a process a job; one that is gone is found out by waiting."""
        try:
            self._pipes[member].send((job.kind, job.requests))
        except OSError:
            self._processes[member].kill()

    def wait(self) -> tuple[int, Reply | None]:
        """Wait for a reply, or for the end of a process."""
        numbers = {pipe: number for number, pipe in self._pipes.items()}
        for pipe in wait(list(numbers)):
            number = numbers[pipe]  # type: ignore[index]
            try:
                return number, self._pipes[number].recv()
            except (EOFError, OSError):
                return number, None
        raise AssertionError

    def replace(self, member: int) -> int | None:
        """Start another process in the place of one that ended."""
        self._end(member)
        self._start(member)
        return member

    def close(self) -> None:
        """End the processes."""
        for number in list(self._pipes):
            self._end(number)

    def _start(self, number: int) -> None:
        mine, theirs = self._context.Pipe()
        process = self._context.Process(
            target=_serve, args=(theirs, self._opener, self._threads), daemon=True, name=f"zoo-eval-{number}"
        )
        process.start()
        theirs.close()  # so that its end is seen here when the process ends
        self._pipes[number], self._processes[number] = mine, process

    def _end(self, number: int) -> None:
        self._pipes.pop(number).close()
        process = self._processes.pop(number)
        process.kill()
        process.join()


def _serve(pipe: Connection, opener: OpenEngine, threads: int) -> None:
    """Answer jobs until the pipe closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the one who asked is interrupted, and ends this one
    scorer: LocalScorer | None = None
    while True:
        try:
            kind, requests = pipe.recv()
        except (EOFError, OSError):
            return
        try:
            scorer = scorer or LocalScorer(opener, threads=threads)
            reply = Reply(do_job(scorer, kind, requests))
        except ZooError as error:
            reply = Reply(None, str(error))
        pipe.send(reply)
