"""Another program that serves a model on a port of this machine: started, waited for, asked, and ended with us."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
import weakref
from collections.abc import Iterator, Mapping, Sequence
from typing import IO, Any

from zoo.errors import EngineEnded, ZooError
from zoo.terminal import one_line

GRACE = 10.0
"""Seconds that the program has to end by itself."""
_RAISED = re.compile(r"\b\w*(Error|Exception): \S")
"""How Python ends a traceback."""
_WATCH = """
import os, signal, subprocess, sys, threading, time
child = subprocess.Popen(sys.argv[2:], stdin=subprocess.DEVNULL)
def follow():
    os.read(0, 1)
    child.terminate()
    time.sleep(float(sys.argv[1]))
    os.killpg(0, signal.SIGKILL)
threading.Thread(target=follow, daemon=True).start()
code = child.wait()
os._exit(code if code >= 0 else 128 - code)
"""
"""Ends the program when this process does, however that ends: its end of a pipe closes."""


def _seconds(variable: str, default: float) -> float:
    """Read how long to wait from the environment.

    Raises:
        ZooError: it is not a number of seconds.
    """
    text = os.environ.get(variable, str(default))
    with contextlib.suppress(ValueError):
        if 0 < float(text) < 1e6:
            return float(text)
    raise ZooError(f"{variable} must be a number of seconds, not {text!r}")


def start_seconds() -> float:
    """How long a program may take to open its model: ``ZOO_ENGINE_START``, seconds; 600 unless set."""
    return _seconds("ZOO_ENGINE_START", 600)


def silent_seconds() -> float:
    """How long a program may give no byte of an answer: ``ZOO_ENGINE_SILENCE``, seconds; 300 unless set."""
    return _seconds("ZOO_ENGINE_SILENCE", 300)


class ServerProcess:
    """A running server of the HTTP kind.

    Args:
        name: of the engine, for messages.
        argv: the command; ``{port}`` in an argument becomes the port.
        key: the variable in which the program looks for the key that requests must carry.
        opens: what it opens, for messages.
        environment: further variables.

    Attributes:
        version: of the program, where the engine found it out; for messages.

    Raises:
        ZooError: it ended instead of answering, or did not answer in time.
    """

    version = ""

    def __init__(
        self, name: str, argv: Sequence[str], *, key: str, opens: str, environment: Mapping[str, str] | None = None
    ) -> None:
        self.name, self._opens, self._silence = name, opens, silent_seconds()
        self._key = secrets.token_hex(16)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self._log: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - as long as the process
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-c", _WATCH, str(GRACE), *(one.replace("{port}", str(self.port)) for one in argv)],
            stdin=subprocess.PIPE,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(environment or {}), key: self._key},
            start_new_session=True,
        )
        self._finalizer = weakref.finalize(self, _end, self._process)
        try:
            self._wait(start_seconds())
        except BaseException:
            self.close()
            raise

    def _wait(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            if self.ended:
                raise self._died("while it opened")
            with (
                contextlib.suppress(OSError, http.client.HTTPException),
                self._answer("GET", "/health", None, min(5, max(until - time.monotonic(), 0.1))) as got,
            ):
                if got.status == 200:
                    return
            time.sleep(0.05)
        late = f"{self.name} has not opened {self._opens} within {seconds:g} s (ZOO_ENGINE_START); it was ended"
        raise ZooError(late + self._last())

    @property
    def ended(self) -> bool:
        """Whether the program is gone."""
        return self._process.poll() is not None

    def ask(self, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """Ask for one answer, JSON.

        Raises:
            ZooError: it refused, hangs or died.
        """
        with self._guarded(), self._answer("POST" if body is not None else "GET", path, body) as got:
            text = got.read()
            if got.status != 200:
                raise self._refused(got.status, text)
            return json.loads(text)

    def events(self, path: str, body: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """Ask for an answer in events; leaving the iterator calls it off.

        Raises:
            ZooError: it refused, hangs or died.
        """
        with self._guarded(), self._answer("POST", path, body) as got:
            if got.status != 200:
                raise self._refused(got.status, got.read())
            for line in got:
                kind, _, data = line.partition(b":")
                if kind == b"error":
                    raise self._refused(500, data)
                if kind == b"data" and data.strip() != b"[DONE]":
                    event = json.loads(data)
                    if "error" in event:
                        raise self._refused(500, data)
                    yield event

    @contextlib.contextmanager
    def _answer(
        self, method: str, path: str, body: Mapping[str, Any] | None, timeout: float | None = None
    ) -> Iterator[http.client.HTTPResponse]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout or self._silence)
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {self._key}"}
        try:
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            yield connection.getresponse()
        finally:
            connection.close()

    def misread(self, error: Exception) -> ZooError:
        """Say that an answer is not what is read here."""
        what = f"{type(error).__name__}: {one_line(str(error))}"
        known = f" {self.version}" if self.version else ""
        return ZooError(f"{self.name}{known} answered otherwise than this zoo reads ({what}); is it another version?")

    @contextlib.contextmanager
    def _guarded(self) -> Iterator[None]:
        """Turn what goes wrong with the program into one line."""
        try:
            yield
        except TimeoutError:
            last = self._last()
            self.close()
            raise EngineEnded(
                f"{self.name} hangs: it gave nothing for {self._silence:g} s (ZOO_ENGINE_SILENCE); it was ended{last}"
            ) from None
        except (OSError, http.client.HTTPException) as error:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(2)  # the socket closes before the process is gone
            if self.ended:
                raise self._died("while it answered") from None
            raise ZooError(f"{self.name} broke off its answer: {one_line(str(error))}") from None
        except (ValueError, TypeError) as error:
            raise self.misread(error) from None

    def _refused(self, status: int, raw: bytes) -> ZooError:
        try:
            told = json.loads(raw)
            error = told.get("error", told)
            message = str(error.get("message", error) if isinstance(error, dict) else error)
        except (ValueError, AttributeError):
            message = raw.decode(errors="replace")
        return ZooError(f"{self.name} refused a request ({status}): {one_line(message)[:300]}")

    def _died(self, when: str) -> EngineEnded:
        code = self._process.returncode
        ended = f"was killed by signal {code - 128}" if code > 128 else f"ended with exit code {code}"
        return EngineEnded(f"{self.name} {ended} {when} {self._opens}{self._last()}")

    def _last(self) -> str:
        """Quote the line of its output that says most."""
        with contextlib.suppress(OSError, ValueError):
            self._log.seek(max(0, self._log.seek(0, os.SEEK_END) - 20_000))
            lines = [line for line in self._log.read().decode(errors="replace").splitlines() if line.strip()]
            raised = [line for line in lines if _RAISED.search(line)]  # what came later speaks of the first
            errors = [line for line in lines if "error" in line.lower()]
            if lines:
                return f": {one_line((raised[:1] or errors or lines)[-1].strip())[:300]}"
        return ""

    def close(self) -> None:
        """End the program and what it started."""
        self._finalizer()
        self._log.close()


def _end(process: subprocess.Popen[bytes]) -> None:
    assert process.stdin is not None
    with contextlib.suppress(OSError):
        process.stdin.close()
    try:
        process.wait(GRACE + 2)
    except subprocess.TimeoutExpired:
        pass
    finally:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
