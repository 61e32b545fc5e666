"""The data files: written at any position, hashed in order, handed to the disk while the work goes on."""

from __future__ import annotations

import bisect
import contextlib
import ctypes
import errno
import hashlib
import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zoo.package.files import guarded

_PUSH = 32 * 2**20
"""How much is hashed before the system is asked to start writing it: the final wait for the disk stays short."""
_ZEROS = bytes(4096)
_WRITE = 2
"""SYNC_FILE_RANGE_WRITE: start writing, wait for nothing."""


@dataclass(frozen=True, slots=True)
class Resumed:
    """How far an earlier build got."""

    done: int
    """Bytes of the run of all weights that are surely right."""
    state: Any
    """SHA-256 of the file that holds the last of them, up to there."""
    checksums: dict[str, str]
    """SHA-256 of the files before it, by name."""


@dataclass(frozen=True, slots=True)
class DataSection:
    """A data file: a header, and the weights behind it."""

    path: Path
    header: bytes
    start: int
    """Where its weights begin in the run of all weights."""
    size: int
    """Bytes of its weights."""

    @property
    def stop(self) -> int:
        return self.start + self.size

    @property
    def file_size(self) -> int:
        return len(self.header) + self.size


class DataFiles:
    """The weights of all data files as one run of bytes, filled by several threads.

    Pieces may be written in any order; they are hashed in the run's own order, by whichever thread brings the piece
    that is next. A piece lies in one file.

    Args:
        sections: the files, one behind the other.
        resumed: how far an earlier build got; nothing by default.
    """

    def __init__(self, sections: Sequence[DataSection], resumed: Resumed | None = None) -> None:
        self._sections = sections
        self.folder = sections[0].path.parent
        self._checksums = dict(resumed.checksums) if resumed else {}
        self._now = len(self._checksums)
        """The section that is hashed now."""
        self._state = resumed.state if resumed else hashlib.sha256(sections[0].header)
        self._at = resumed.done if resumed else 0
        self._pushed = self._at
        self._pending: dict[int, tuple[int, Any, int, Callable[[], None]]] = {}
        self._turn = 0
        """The number of the piece that is hashed next."""
        self._lock = threading.Lock()
        self._hashing = False
        self._files: list[int] = []
        try:
            for section in sections:
                with guarded(section.path):
                    file = os.open(section.path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o644)
                    self._files.append(file)
                    _reserve(file, section.file_size)
                    _write(file, memoryview(section.header), 0)
        except BaseException:
            self.close()
            raise

    def _find(self, offset: int) -> int:
        """Find the section that holds a position."""
        index = bisect.bisect_right(self._sections, offset, key=lambda section: section.start) - 1
        return max(index, 0)

    def write(self, offset: int, data: Any) -> None:
        """Write a contiguous array at a position.

        Raises:
            ZooError: no space, or whatever the system says.
        """
        index = self._find(offset)
        section = self._sections[index]
        with guarded(section.path):
            _write(self._files[index], memoryview(data).cast("B"), offset - section.start + len(section.header))

    def read(self, offset: int, out: Any) -> None:
        """Read back what was written at a position into a contiguous array.

        Raises:
            ZooError: whatever the system says.
        """
        index, done = self._find(offset), 0
        section, view = self._sections[index], memoryview(out).cast("B")
        begin = offset - section.start + len(section.header)
        with guarded(section.path):
            while done < len(view):
                got = os.preadv(self._files[index], [view[done:]], begin + done)
                if got == 0:
                    raise OSError(errno.EIO, "became shorter while it was written", str(section.path))
                done += got

    def hash(self, number: int, offset: int, data: Any, after: Callable[[], None]) -> None:
        """Hand over a written piece, an empty one too; ``after`` is called once it is hashed, in the order of numbers.

        The next piece begins where this one ends, or after padding, which is hashed as zeros.
        """
        with self._lock:
            self._pending[number] = (offset, data, memoryview(data).nbytes, after)

    def advance(self) -> None:
        """Hash every piece that is next in order, unless another thread is at it."""
        while True:
            with self._lock:
                if self._hashing:
                    return
                if self._turn not in self._pending:
                    return
                offset, data, size, after = self._pending.pop(self._turn)
                self._hashing = True
            try:
                self.pad(offset)
                self._state.update(data)
                self._at = offset + size
                self._turn += 1
                after()
                if self._at - self._pushed >= _PUSH:
                    section = self._sections[self._now]
                    begin = max(self._pushed - section.start, 0)
                    _push(self._files[self._now], begin + len(section.header), self._at - section.start - begin)
                    self._pushed = self._at
            finally:
                with self._lock:
                    self._hashing = False

    def append(self, offset: int, data: Any) -> None:
        """Write and hash a piece that comes next; only from within ``after``."""
        self.write(offset, data)
        self.pad(offset)
        self._state.update(data)
        self._at = offset + memoryview(data).nbytes

    def take(self, offset: int, size: int) -> None:
        """Hash a piece that was written before and comes next; not while others hash."""
        self.pad(offset)
        room = bytearray(min(size, _PUSH))
        while self._at < offset + size:
            piece = memoryview(room)[: offset + size - self._at]
            self.read(self._at, piece)
            self._state.update(piece)
            self._at += len(piece)

    def pad(self, offset: int) -> None:
        """Hash the zeros between the last piece and ``offset``, over the ends of files."""
        while self._now + 1 < len(self._sections) and offset >= self._sections[self._now].stop:
            self._zeros(self._sections[self._now].stop)
            self._checksums[self._sections[self._now].path.name] = str(self._state.hexdigest())
            self._now += 1
            self._state = hashlib.sha256(self._sections[self._now].header)
        self._zeros(offset)

    def _zeros(self, offset: int) -> None:
        gap = offset - self._at
        while gap > 0:
            self._state.update(_ZEROS[: min(gap, len(_ZEROS))])
            gap -= len(_ZEROS)
        self._at = max(offset, self._at)

    @property
    def checksum(self) -> str:
        """SHA-256 of the file that is written now, up to the last piece hashed."""
        return str(self._state.copy().hexdigest())

    def finish(self) -> dict[str, tuple[int, str]]:
        """Wait until everything is on the disk; return the size and the SHA-256 of every file, by its name."""
        last = self._sections[-1]
        self.pad(last.start)
        self._zeros(last.stop)
        self._checksums[last.path.name] = self.checksum
        for section, file in zip(self._sections, self._files, strict=True):
            with guarded(section.path):
                os.ftruncate(file, section.file_size)
                os.fsync(file)
        return {one.path.name: (one.file_size, self._checksums[one.path.name]) for one in self._sections}

    def close(self) -> None:
        """Close the files; harmless twice."""
        for file in self._files:
            with contextlib.suppress(OSError):
                os.close(file)
        self._files = []


def _write(file: int, view: memoryview, offset: int) -> None:
    done = 0
    while done < len(view):
        done += os.pwrite(file, view[done:], offset + done)


def _reserve(file: int, size: int) -> None:
    """Take the space at once, so that a disk that is too small says so before any work."""
    if os.fstat(file).st_size > size:
        os.ftruncate(file, size)
    if size and hasattr(os, "posix_fallocate"):
        try:
            os.posix_fallocate(file, 0, size)
            return
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS):
                raise
    os.ftruncate(file, size)


def _load_push() -> Any:
    """Find Linux's sync_file_range; elsewhere the system decides when to write."""
    with contextlib.suppress(OSError, AttributeError):
        function = ctypes.CDLL(None).sync_file_range
        function.argtypes = [ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint]
        return function
    return None


_sync_file_range: Any = _load_push()


def _push(file: int, offset: int, size: int) -> None:
    if _sync_file_range is not None:
        _sync_file_range(file, offset, size, _WRITE)
