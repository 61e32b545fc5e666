"""Bring a file over HTTP: resumed where it broke off, also by an earlier command, and checked before it counts."""

from __future__ import annotations

import errno
import hashlib
import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from zoo.errors import ZooError
from zoo.sources.hub_errors import Place, explain, pause, rest
from zoo.sources.redirects import requested
from zoo.units import bytes_text

CHUNK = 2**20
MOST_UNSTATED = 64 * 2**30
"""Bytes of a file whose server does not say how many there are."""
RESERVE = 2**28
"""Bytes of the disk that such a file leaves free."""
_LOOK = 2**26
"""Bytes after which the room on the disk is looked at again."""
_MOST_BREAKS = 1000
"""Connections that break after bringing something; a server that drips must end some day."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """How far a download is; sizes in bytes, the rate in bytes a second."""

    file: str
    bytes_done: int
    bytes_total: int
    rate: float
    eta: float | None
    """Seconds left, where a rate is known."""


@dataclass
class Tally:
    """Counts what arrives, over all files and threads, and tells the one who asked."""

    total: int
    report: Callable[[Arrival], None] | None = None
    done: int = 0
    arrived: int = 0
    """Bytes that came over the network."""
    stop: threading.Event = field(default_factory=threading.Event)
    _started: float = field(default_factory=time.monotonic)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, file: str, size: int, *, arrived: bool = True) -> None:
        """Count bytes that are there now; fewer than none where a file begins anew."""
        with self._lock:
            self.done += size
            if arrived:
                self.arrived += size
            if self.report is not None:
                rate = self.arrived / max(time.monotonic() - self._started, 1e-6)
                left = (self.total - self.done) / rate if rate > 0 else None
                self.report(Arrival(file, self.done, self.total, rate, left))


class Stopped(Exception):
    """Another file failed, or the user interrupted."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A file to bring."""

    name: str
    url: str
    size: int | None
    sha256: str | None
    headers: Mapping[str, str] = field(default_factory=dict)
    public: bool = False
    """Redirects may lead to public hosts only: the address is a stranger's."""


def bring(wanted: Wanted, partial: Path, tally: Tally, place: Place) -> str:
    """Bring a file to ``partial``, going on from what is there, and check its size and SHA-256.

    Args:
        wanted: what to bring.
        partial: where it grows; kept when the transfer breaks off, removed when its content is wrong.
        tally: counts, and says when to stop.
        place: for messages.

    Returns:
        The SHA-256 of what came.

    Raises:
        ZooError: it did not come, or came wrong.
    """
    with _open(partial, wanted.name) as file:
        resumed = _Growing(file, wanted, tally)
        for last_chance in (False, True):
            begun = resumed.size
            try:
                resumed.require_room()
                _fill(resumed, wanted, tally, place)
            except ZooError:
                if resumed.is_lost:
                    partial.unlink(missing_ok=True)
                raise
            problem = resumed.problem()
            if problem is None:
                os.fsync(file.fileno())
                return resumed.hash.hexdigest()
            resumed.restart()
            # What an earlier command left may be what is wrong; bytes that all came now will not get better.
            if last_chance or begun == 0:
                break
    partial.unlink(missing_ok=True)
    raise ZooError(
        f"{place.repository}: {wanted.name} arrived wrong ({problem}) and was discarded. Try again; if it stays so, "
        f"the copy at {place.host} is damaged{place.elsewhere}"
    )


class _Growing:
    """The partial file: its size, and the hash of what it holds."""

    def __init__(self, file: BinaryIO, wanted: Wanted, tally: Tally) -> None:
        self._file = file
        self._wanted = wanted
        self._tally = tally
        self.size = 0
        self.most = 0
        """The size that it ever had."""
        self.hash = hashlib.sha256()
        self._looked = 0
        self._restarted = False
        limit = wanted.size
        while chunk := file.read(CHUNK):
            if tally.stop.is_set():
                raise Stopped
            self.hash.update(chunk)
            self.size += len(chunk)
        self.most = self.size
        tally.add(wanted.name, self.size, arrived=False)
        if limit is not None and self.size > limit:
            self.restart()

    def append(self, chunk: bytes) -> None:
        view = memoryview(chunk)
        try:
            while view:
                view = view[self._file.write(view) :]
        except OSError as error:
            raise _disk(error, self._wanted.name) from None
        self.hash.update(chunk)
        self.size += len(chunk)
        self.most = max(self.most, self.size)
        if self._wanted.size is None and self.size - self._looked >= _LOOK:
            self._looked = self.size
            self._stay_bounded()
        self._tally.add(self._wanted.name, len(chunk))

    @property
    def is_lost(self) -> bool:
        """Whether what is there is of no use to a later command: nothing, or what the server does not go on with."""
        return self.size == 0 or self._restarted

    def require_room(self) -> None:
        """Refuse a file that the disk cannot hold before it comes.

        Raises:
            ZooError: with what is free.
        """
        size = self._wanted.size
        free = self._free()
        if size is not None and size - self.size > free:
            raise ZooError(
                f"{self._wanted.name}: takes {bytes_text(size - self.size)} more, and {bytes_text(free)} are free"
            )

    def _stay_bounded(self) -> None:
        """Stop a file without a stated size before it fills the disk."""
        if self.size > MOST_UNSTATED or self._free() < RESERVE:
            self.restart()
            raise ZooError(
                f"{self._wanted.name}: its server states no size, and {bytes_text(self.most)} are more than there is "
                "room for; it is discarded"
            )

    def _free(self) -> int:
        status = os.fstatvfs(self._file.fileno())
        return status.f_bavail * status.f_frsize

    def restart(self) -> None:
        self._file.seek(0)
        self._file.truncate()
        self._restarted = self._restarted or self.size > 0
        self._tally.add(self._wanted.name, -self.size, arrived=False)
        self.size, self.hash, self._looked = 0, hashlib.sha256(), 0

    def problem(self) -> str | None:
        """Say what is wrong with the whole file."""
        wanted = self._wanted
        if wanted.size is not None and self.size != wanted.size:
            return f"{self.size} bytes instead of {wanted.size}"
        if wanted.sha256 is not None and self.hash.hexdigest() != wanted.sha256:
            return f"SHA-256 {self.hash.hexdigest()[:16]}… instead of {wanted.sha256[:16]}…"
        return None


def _fill(growing: _Growing, wanted: Wanted, tally: Tally, place: Place) -> None:
    """Request what is missing until it is all there."""
    failures = breaks = 0
    while wanted.size is None or growing.size < wanted.size:
        before = growing.most
        try:
            if _request(growing, wanted, tally):
                return
            problem: Exception = _broke_off()
        except (ZooError, Stopped):
            raise
        except Exception as error:
            problem = error
        if growing.most > before:  # a server that begins anew each time makes no progress
            failures, breaks = 0, breaks + 1
        wait = pause(problem, failures) if breaks < _MOST_BREAKS else None
        if wait is None:
            raise explain(problem, place)
        rest(wait, tally.stop)
        if tally.stop.is_set():
            raise Stopped
        failures += 1


def _broke_off() -> Exception:
    import httpx2

    return httpx2.RemoteProtocolError("the connection broke off")


def _request(growing: _Growing, wanted: Wanted, tally: Tally) -> bool:
    """Make one request from where the file ends; True when the server has sent all that it has."""
    from huggingface_hub import hf_raise_for_status

    headers = {**wanted.headers, "Accept-Encoding": "identity"}
    if growing.size:
        headers["Range"] = f"bytes={growing.size}-"
    with requested("GET", wanted.url, headers, public=wanted.public) as response:
        if response.status_code == 416:
            growing.restart()
            return False
        hf_raise_for_status(response)
        if growing.size and not continues(response, growing.size):
            growing.restart()
            if response.status_code == 206:
                return False
        if response.headers.get("content-encoding", "identity") != "identity":
            raise ZooError(f"{wanted.name}: its server sends it compressed, though asked not to; it cannot be checked")
        # As it comes: a larger piece would be lost with the connection that breaks in the middle of it.
        for chunk in response.iter_bytes():
            if tally.stop.is_set():
                raise Stopped
            growing.append(chunk)
            if wanted.size is not None and growing.size > wanted.size:
                return True
        framed = "content-length" in response.headers or "transfer-encoding" in response.headers
        return framed or growing.size == wanted.size


def continues(response: Any, position: int) -> bool:
    """Tell whether an answer is the part of a file that was asked for."""
    begins = str(response.headers.get("content-range", "")).removeprefix("bytes ").partition("-")[0]
    return response.status_code == 206 and begins == str(position)


def _open(partial: Path, name: str) -> BinaryIO:
    try:
        partial.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(partial, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o666)
        return os.fdopen(descriptor, "r+b", buffering=0)
    except OSError as error:
        raise _disk(error, name) from None


def _disk(error: OSError, name: str) -> ZooError:
    """Explain a failed write."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return ZooError(f"{name}: no space left on the disk; what arrived is kept. Make room, or move HF_HOME")
    if error.errno == errno.EFBIG:
        return ZooError(f"{name}: larger than files may be here (file-size limit); what arrived is kept")
    return ZooError(f"{name}: cannot be written: {error.strerror or error}: {error.filename or ''}".rstrip(": "))
