"""Values of all samples, such as the hidden states between two layers: a file, so that they take no memory."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from zoo.package.files import guarded

STATES = "calibration.states"


class States:
    """Float32 (samples, tokens, hidden) in a file; a sample is read, computed and written back in its place.

    Args:
        folder: where the file goes; it is made anew.
        shape: samples, tokens of each, hidden size.
        name: the file's.
    """

    def __init__(self, folder: Path, shape: tuple[int, int, int], name: str = STATES) -> None:
        self._path = folder / name
        self.shape = shape
        self._sample = shape[1] * shape[2] * 4
        with guarded(self._path):
            self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | getattr(os, "O_BINARY", 0), 0o600)

    def read(self, start: int, stop: int) -> NDArray[np.float32]:
        """Read samples ``start`` to ``stop``."""
        out = np.empty((stop - start, *self.shape[1:]), np.float32)
        self._read(start * self._sample, out)
        return out

    def write(self, start: int, values: NDArray[np.float32]) -> None:
        """Write samples from ``start`` on."""
        self._write(start * self._sample, values)

    def gather(self, tokens: NDArray[np.intp]) -> NDArray[np.float32]:
        """Read tokens, counted over all samples and growing: (tokens, hidden)."""
        out = np.empty((len(tokens), self.shape[2]), np.float32)
        for begin, end in _runs(tokens):
            self._read(int(tokens[begin]) * out[0].nbytes, out[begin:end])
        return out

    def scatter(self, tokens: NDArray[np.intp], values: NDArray[np.float32]) -> None:
        """Write tokens (tokens, hidden), as ``gather`` reads them."""
        for begin, end in _runs(tokens):
            self._write(int(tokens[begin]) * values[0].nbytes, values[begin:end])

    def _read(self, offset: int, out: NDArray[np.float32]) -> None:
        view, at = memoryview(cast(Any, out)).cast("B"), 0
        with guarded(self._path):
            while at < len(view):
                piece = os.preadv(self._file, [view[at:]], offset + at)
                if not piece:
                    raise OSError(0, "became shorter while it was used", str(self._path))
                at += piece

    def _write(self, offset: int, values: NDArray[np.float32]) -> None:
        view, at = memoryview(cast(Any, np.ascontiguousarray(values))).cast("B"), 0
        with guarded(self._path):
            while at < len(view):
                at += os.pwrite(self._file, view[at:], offset + at)

    def close(self) -> None:
        """Remove the file; a resumed build computes the states again."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
            self._path.unlink(missing_ok=True)


def _runs(tokens: NDArray[np.intp]) -> Iterator[tuple[int, int]]:
    """Cut growing numbers into runs that follow each other."""
    breaks = (np.flatnonzero(np.diff(tokens) != 1) + 1).tolist()
    return zip([0, *breaks], [*breaks, len(tokens)], strict=True) if len(tokens) else iter(())
