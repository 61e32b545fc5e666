"""A worker process: started once, asked many times, replaced when it dies or takes too long.

Some work on strangers' data cannot be bounded from inside: a template's single operation holds the interpreter for
hours, a regular expression or a tokenizer's rule takes gigabytes in a library. Such work is done in a process that
can be ended, and that ends by itself at its limits.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import select
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import zoo
from zoo.errors import UsageError, ZooError

HEAD = struct.Struct(">I")
"""How many bytes of JSON follow."""
_CHUNK = 1 << 16
_MAIN = (
    "import sys, json; sys.path[:] = json.loads(sys.argv[1]); from zoo.worker.child import main; main(int(sys.argv[2]))"
)


class Overrun(ZooError):
    """The work took more time or memory than it may."""


class Worker:
    """A process that calls functions of ``zoo`` with JSON arguments, one at a time.

    Args:
        memory: bytes of address space that it may have.
        seconds: how long one call may take, its arguments' way there and the result's back included.
        libraries: packages beside ``zoo`` that the functions import.
    """

    def __init__(self, memory: int, seconds: float, libraries: tuple[str, ...] = ()) -> None:
        self.memory, self.seconds, self._libraries = memory, seconds, libraries
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()
        self._closed = False

    def start(self) -> None:
        """Start the process unless it runs, without waiting for it; the first call is sooner answered then."""
        with self._lock:
            self._running()

    def call(self, function: str, what: str, **arguments: Any) -> Any:
        """Call ``package.module:function`` in the process and return its result.

        Args:
            what: what is being done, for messages: ``the chat template``.

        Raises:
            Overrun: it took too long or too much memory; the process is ended, and the next call starts another.
            ZooError, UsageError: as the function raised them.
        """
        request = json.dumps({"function": function, "arguments": arguments}).encode()
        deadline = time.monotonic() + self.seconds
        if not self._lock.acquire(timeout=self.seconds):
            raise Overrun(f"{what}: an earlier call takes more than {self.seconds:g} s")
        try:
            process = self._running()
            try:
                raw = self._exchange(process, request, deadline)
            except TimeoutError:
                self._end()
                raise Overrun(f"{what} takes more than {self.seconds:g} s") from None
            except (OSError, EOFError):
                self._end()
                if self._closed:
                    raise ZooError(f"{what}: it is being closed") from None
                raise Overrun(
                    f"{what} takes more than {self.memory >> 20} MiB of memory, or ends its process"
                ) from None
            answer = json.loads(raw)
            if answer.get("last"):
                self._end()
        finally:
            self._lock.release()
        if "error" in answer:
            if answer["kind"] == "MemoryError":
                raise Overrun(f"{what} takes more than {self.memory >> 20} MiB of memory")
            raise (UsageError if answer["kind"] == "UsageError" else ZooError)(answer["error"])
        return answer["result"]

    def close(self) -> None:
        """End the process, also in the middle of a call."""
        self._closed = True
        process = self._process
        if process is not None:
            process.kill()

    def __del__(self) -> None:
        with contextlib.suppress(Exception):
            self._end()

    def _running(self) -> subprocess.Popen[bytes]:
        if self._closed:
            raise ZooError("the worker is closed")
        if self._process is not None and self._process.poll() is None:
            return self._process
        self._end()
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _MAIN, json.dumps(self._path()), str(self.memory)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            # A key that interrupts the command must not end what the next command needs.
            start_new_session=True,
            env={name: value for name, value in os.environ.items() if name in ("TZ", "LANG", "LC_ALL", "PATH")},
        )
        assert process.stdin is not None
        assert process.stdout is not None
        os.set_blocking(process.stdin.fileno(), False)
        os.set_blocking(process.stdout.fileno(), False)
        self._process = process
        return process

    def _path(self) -> list[str]:
        """Say where the process finds ``zoo`` and the libraries, however this one found them."""
        places = [str(Path(zoo.__file__).parents[1])]
        for name in self._libraries:
            spec = importlib.util.find_spec(name)
            if spec is not None and spec.origin is not None:
                place = Path(spec.origin).parent
                places.append(str(place.parent if spec.submodule_search_locations else place))
        return list(dict.fromkeys([*places, *(entry for entry in sys.path if entry)]))

    def _exchange(self, process: subprocess.Popen[bytes], request: bytes, deadline: float) -> bytes:
        """Send a request and receive the answer before the deadline."""
        assert process.stdin is not None
        assert process.stdout is not None
        waiting = memoryview(HEAD.pack(len(request)) + request)
        to, back = process.stdin.fileno(), process.stdout.fileno()
        while waiting:
            _wait(to, select.POLLOUT, deadline)
            waiting = waiting[os.write(to, waiting[:_CHUNK]) :]
        (size,) = HEAD.unpack(_receive(back, HEAD.size, deadline))
        return _receive(back, size, deadline)

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    pipe.close()


def _wait(descriptor: int, event: int, deadline: float) -> None:
    left = deadline - time.monotonic()
    poll = select.poll()
    poll.register(descriptor, event)
    if left <= 0 or not poll.poll(left * 1000):
        raise TimeoutError


def _receive(descriptor: int, size: int, deadline: float) -> bytes:
    chunks = bytearray()
    while len(chunks) < size:
        _wait(descriptor, select.POLLIN, deadline)
        chunk = os.read(descriptor, min(_CHUNK, size - len(chunks)))
        if not chunk:
            raise EOFError
        chunks += chunk
    return bytes(chunks)
