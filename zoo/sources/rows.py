"""Rows of a parameter's part as the package will hold them: read, and widened where heads are padded."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zoo.contracts import Checkpoint, HeadPadding, Part


def positions(padding: HeadPadding) -> NDArray[np.intp]:
    """Say where each value of the unpadded axis goes: (heads · size,) positions on the padded one."""
    within = np.arange(padding.size)
    if padding.rotary:
        half = padding.size // 2
        within[half:] += padding.padded // 2 - half
    return (np.arange(padding.heads)[:, None] * padding.padded + within).reshape(-1)


def columns_of(shape: tuple[int, ...]) -> int:
    """Count the values of one row."""
    return math.prod(shape[1:])


class RowReader:
    """Reads rows of parts into buffers that it keeps; one for each thread.

    Args:
        checkpoint: where the weights are.
        capacity: bytes of the largest slab, as stored and as padded.
    """

    def __init__(self, checkpoint: Checkpoint, capacity: int) -> None:
        self._checkpoint = checkpoint
        self._capacity = capacity
        self._buffer = np.empty(capacity, np.uint8)
        self._padded: NDArray[np.uint8] | None = None

    def read(self, part: Part, start: int, stop: int) -> NDArray[Any]:
        """Read rows ``start`` to ``stop`` of the stored (padded) part, (rows, columns), in the checkpoint's type."""
        if part.pad_rows is None and part.pad_columns is None:
            raw = self._checkpoint.read(part.tensor, start, stop, self._buffer)
            return raw.reshape(stop - start, columns_of(part.shape))
        rows = np.arange(start, stop) if part.pad_rows is None else positions(part.pad_rows)
        # Positions grow, so the rows wanted are a run of the tensor's own.
        first, last = np.searchsorted(rows, (start, stop)) if part.pad_rows is not None else (start, stop)
        targets = (rows[first:last] if part.pad_rows is not None else rows) - start
        raw = self._checkpoint.read(part.tensor, int(first), int(last), self._buffer)
        raw = raw.reshape(len(targets), columns_of(part.shape))
        if self._padded is None:
            self._padded = np.empty(self._capacity, np.uint8)
        shape = (stop - start, columns_of(part.stored_shape))
        padded = self._padded[: math.prod(shape) * raw.itemsize].view(raw.dtype).reshape(shape)
        padded[...] = 0
        if part.pad_columns is None:
            padded[targets] = raw
        else:
            padded[targets[:, None], positions(part.pad_columns)] = raw
        return padded
