"""The data file: written at any position, hashed in order, handed to the disk while the work goes on."""

from __future__ import annotations

import contextlib
import ctypes
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from zoo.package.files import guarded

_PUSH = 32 * 2**20
"""How much is hashed before the system is asked to start writing it: the final wait for the disk stays short."""
_ZEROS = bytes(4096)
_WRITE = 2
"""SYNC_FILE_RANGE_WRITE: start writing, wait for nothing."""


class DataFile:
    """A file of known size, filled by several threads.

    Pieces may be written in any order; they are hashed in the file's own order, by whichever thread brings the piece
    that is next.
    """

    def __init__(self, path: Path, size: int, *, done: int = 0, state: Any = None) -> None:
        import hashlib

        self._path = path
        self._state = state if state is not None else hashlib.sha256()
        self._at = done
        self._pushed = done
        self._pending: dict[int, tuple[Any, int, Callable[[], None]]] = {}
        self._lock = threading.Lock()
        self._hashing = False
        with guarded(path):
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o644)
            _reserve(self._file, size)
        self.size = size

    def write(self, offset: int, data: Any) -> None:
        """Write a contiguous array at a position.

        Raises:
            ZooError: no space, or whatever the system says.
        """
        view, done = memoryview(data).cast("B"), 0
        with guarded(self._path):
            while done < len(view):
                done += os.pwrite(self._file, view[done:], offset + done)

    def hash(self, offset: int, data: Any, after: Callable[[], None]) -> None:
        """Hand over a piece that is written; ``after`` is called once it is hashed, in the file's order.

        The next piece begins where this one ends, or after padding, which is hashed as zeros.
        """
        with self._lock:
            self._pending[offset] = (data, memoryview(data).nbytes, after)

    def advance(self, following: Callable[[], int | None]) -> None:
        """Hash every piece that is next in the file's order, unless another thread is at it.

        Args:
            following: says at which offset the next piece begins, or None at the end.
        """
        while True:
            with self._lock:
                if self._hashing:
                    return
                offset = following()
                if offset is None or offset not in self._pending:
                    return
                data, size, after = self._pending.pop(offset)
                self._hashing = True
            try:
                self.pad(offset)
                self._state.update(data)
                self._at = offset + size
                after()
                if self._at - self._pushed >= _PUSH:
                    _push(self._file, self._pushed, self._at - self._pushed)
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

    def pad(self, offset: int) -> None:
        """Hash the zeros between the last piece and ``offset``."""
        gap = offset - self._at
        while gap > 0:
            self._state.update(_ZEROS[: min(gap, len(_ZEROS))])
            gap -= len(_ZEROS)
        self._at = offset

    @property
    def checksum(self) -> str:
        """SHA-256 of the file up to the last piece hashed."""
        return str(self._state.copy().hexdigest())

    def finish(self) -> str:
        """Wait until everything is on the disk; return the SHA-256 of the whole file."""
        self.pad(self.size)
        with guarded(self._path):
            os.ftruncate(self._file, self.size)
            os.fsync(self._file)
        return self.checksum

    def close(self) -> None:
        """Close the file; harmless twice."""
        if self._file >= 0:
            with contextlib.suppress(OSError):
                os.close(self._file)
            self._file = -1


def _reserve(file: int, size: int) -> None:
    """Take the space at once, so that a disk that is too small says so before any work."""
    if os.fstat(file).st_size > size:
        os.ftruncate(file, size)
    if size and hasattr(os, "posix_fallocate"):
        import errno

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
