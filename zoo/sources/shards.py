"""The open files of weights of a folder, read at positions."""

from __future__ import annotations

import os
import threading
from pathlib import Path

from zoo.contracts import Stamp
from zoo.errors import ZooError

_AHEAD = 16 * 2**20
"""How far ahead the system is told to read: some slabs."""


class Shards:
    """Open files of weights, read at positions, from any thread."""

    def __init__(self, sizes: dict[str, int], paths: dict[str, Path]) -> None:
        self._paths = paths
        self._files: dict[str, int] = {}
        self._lock = threading.Lock()
        # Reading a checkpoint that is large against the memory would push everything else out of the page cache.
        self._large = sum(sizes.values()) > _memory() // 3

    def descriptor(self, name: str) -> int:
        """Open a file once and keep it open."""
        with self._lock:
            if name not in self._files:
                try:
                    file = os.open(self._paths[name], os.O_RDONLY | getattr(os, "O_BINARY", 0))
                except OSError as error:
                    raise ZooError(f"{name}: {error.strerror or error}") from None
                self._files[name] = file
                _advise(file, 0, 0, "POSIX_FADV_SEQUENTIAL")
            return self._files[name]

    def read_into(self, name: str, offset: int, view: memoryview) -> None:
        """Fill ``view`` from a position of a file.

        Raises:
            ZooError: the file ends before, or cannot be read.
        """
        file, done, size = self.descriptor(name), 0, len(view)
        try:
            while done < size:
                got = os.preadv(file, [view[done:]], offset + done)
                if got == 0:
                    raise ZooError(
                        f"{name}: ends at byte {offset + done}, before its tensors do; it changed, fetch it again"
                    )
                done += got
        except OSError as error:
            raise ZooError(f"{name}: reading at byte {offset + done} failed: {error.strerror or error}") from None
        if size >= 2**20:
            # As much again, further on: advice that overlaps costs as much as reading.
            _advise(file, offset + _AHEAD, size, "POSIX_FADV_WILLNEED")
            if self._large:
                _advise(file, offset, size, "POSIX_FADV_DONTNEED")

    def stamps(self) -> dict[str, Stamp]:
        """Stamp every file, as the disk says now."""
        result = {}
        for name, path in self._paths.items():
            try:
                status = os.stat(path)
            except OSError as error:
                raise ZooError(f"{name}: {error.strerror or error}") from None
            result[name] = (
                status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
            )  # fmt: skip
        return result

    def close(self) -> None:
        with self._lock:
            for file in self._files.values():
                os.close(file)
            self._files.clear()

    def __del__(self) -> None:
        self.close()


def _advise(file: int, offset: int, size: int, advice: str) -> None:
    """Pass advice to the page cache where the system takes it."""
    if hasattr(os, "posix_fadvise"):
        import contextlib

        with contextlib.suppress(OSError):
            os.posix_fadvise(file, offset, size, getattr(os, advice))


def _memory() -> int:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return 8 * 2**30
