"""Bytes at positions: what a reader of headers needs, from a file here or over the network."""

from __future__ import annotations

import os
from typing import BinaryIO, Protocol


class ByteReader(Protocol):
    """A run of bytes of known size."""

    size: int

    def read_at(self, offset: int, size: int) -> bytes:
        """Read ``size`` bytes, fewer only where the file ends."""
        ...


class FileReader:
    """An open file on disk."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.size = os.fstat(file.fileno()).st_size

    def read_at(self, offset: int, size: int) -> bytes:
        return os.pread(self._file.fileno(), size, offset)
