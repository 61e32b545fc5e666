"""The hidden states of all samples, between two layers: a file, so that they take no memory."""

from __future__ import annotations

import os
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
    """

    def __init__(self, folder: Path, shape: tuple[int, int, int]) -> None:
        self._path = folder / STATES
        self.shape = shape
        self._sample = shape[1] * shape[2] * 4
        with guarded(self._path):
            self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | getattr(os, "O_BINARY", 0), 0o600)

    def read(self, start: int, stop: int) -> NDArray[np.float32]:
        """Read samples ``start`` to ``stop``."""
        out = np.empty((stop - start, *self.shape[1:]), np.float32)
        view, at = memoryview(cast(Any, out)).cast("B"), 0
        with guarded(self._path):
            while at < len(view):
                piece = os.preadv(self._file, [view[at:]], start * self._sample + at)
                if not piece:
                    raise OSError(0, "became shorter while it was used", str(self._path))
                at += piece
        return out

    def write(self, start: int, values: NDArray[np.float32]) -> None:
        """Write samples from ``start`` on."""
        view, at = memoryview(cast(Any, np.ascontiguousarray(values))).cast("B"), 0
        with guarded(self._path):
            while at < len(view):
                at += os.pwrite(self._file, view[at:], start * self._sample + at)

    def close(self) -> None:
        """Remove the file; a resumed build computes the states again."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
            self._path.unlink(missing_ok=True)
