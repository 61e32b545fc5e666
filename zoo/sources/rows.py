"""Rows of a checkpoint tensor, whichever a slice takes: runs in one read each, scattered ones a window at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zoo.contracts import Checkpoint, HeadPadding, RowSlice, flat_shape
from zoo.declarations.dtypes import READABLE

WINDOW = 2**20
"""Bytes that are read at once to pick scattered rows from."""
_RUN = 2**16
"""Bytes of neighbouring rows that are worth a read of their own."""


def positions(padding: HeadPadding) -> NDArray[np.intp]:
    """Say where each row (or column) goes that is not padding: (heads · size,) positions, growing."""
    within = np.arange(padding.size)
    if padding.rotary:
        half = padding.size // 2
        within[half:] += padding.padded // 2 - half
    return (np.arange(padding.heads)[:, None] * padding.padded + within).reshape(-1)


def scattered(row_slice: RowSlice) -> bool:
    """Tell whether a slice takes rows that do not follow each other."""
    rows = row_slice.rows
    return rows is not None and not (isinstance(rows, range) and rows.step == 1)


class RowReader:
    """Reads rows of slices into a buffer that it keeps; one for each thread.

    Args:
        checkpoint: where the weights are.
        capacity: bytes of the most rows that are read at once.
    """

    def __init__(self, checkpoint: Checkpoint, capacity: int) -> None:
        self._checkpoint = checkpoint
        self._buffer = np.empty(capacity, np.uint8)
        self._window: NDArray[np.uint8] | None = None

    def read(self, row_slice: RowSlice, first: int, last: int) -> NDArray[Any]:
        """Read the slice's rows ``first`` to ``last``, unpadded: (rows, columns), in the checkpoint's type.

        The result is overwritten by the next read. Where axes are swapped, all that the slice takes is read.
        """
        if row_slice.transposed:
            return self.read(replace(row_slice, transposed=False), 0, row_slice.count)[:, first:last].T
        rows, columns = row_slice.rows, flat_shape(row_slice.tensor_shape)[1]
        if rows is None or not scattered(row_slice):
            start = first if rows is None else rows[0] + first
            raw = self._checkpoint.read(row_slice.tensor, start, start + last - first, self._buffer)
            return raw.reshape(last - first, columns)
        info = self._checkpoint.tensors[row_slice.tensor]
        dtype = READABLE[info.dtype]
        size = (last - first) * columns * dtype.nbytes
        out = self._buffer[:size].view(dtype.numpy).reshape(last - first, columns)
        self._gather(row_slice, np.asarray(rows[first:last]), out)
        return out

    def _gather(self, row_slice: RowSlice, rows: NDArray[np.intp], out: NDArray[Any]) -> None:
        """Fill ``out`` with rows of a tensor, in the order given.

        A window reaches up to where the next one begins: a tensor of which every second row is read is read in one go.
        """
        row, tensor, last = out.shape[1] * out.itemsize, row_slice.tensor, flat_shape(row_slice.tensor_shape)[0]
        reads = list(row_reads(rows, row))
        lows = [int(rows[begin:end].min()) for begin, end in reads]
        step = row_slice.rows.step if isinstance(row_slice.rows, range) else 1
        lows.append(min(int(rows[-1]) + max(step, 1), last))
        for index, (begin, end) in enumerate(reads):
            low, following = lows[index : index + 2]
            span = int(rows[begin:end].max()) + 1 - low
            if span < following - low <= WINDOW // row:
                span = following - low
            if (np.diff(rows[begin:end]) == 1).all():
                into = out[begin:end].reshape(-1).view(np.uint8)
                self._checkpoint.read(tensor, low, low + end - begin, into)
                continue
            if self._window is None:
                self._window = np.empty(WINDOW, np.uint8)
            taken = self._checkpoint.read(tensor, low, low + span, self._window).reshape(span, -1)
            out[begin:end] = taken[rows[begin:end] - low]


def row_reads(rows: NDArray[np.intp], row: int) -> Iterator[tuple[int, int]]:
    """Cut a list of rows, of ``row`` bytes each, into what is read at once: long runs, windows of scattered ones."""
    breaks = np.flatnonzero(np.diff(rows) != 1) + 1
    runs = [(int(begin), int(end)) for begin, end in zip([0, *breaks], [*breaks, len(rows)], strict=True)]
    begin = end = low = high = 0
    for start, stop in runs:
        first, last = int(rows[start]), int(rows[stop - 1])
        if (stop - start) * row >= _RUN:
            if begin < end:
                yield begin, end
            yield start, stop
            begin = end = stop
            continue
        if begin < end and (max(high, last) + 1 - min(low, first)) * row > WINDOW - _RUN:
            yield begin, end
            begin = end
        low, high = (min(low, first), max(high, last)) if begin < end else (first, last)
        begin, end = begin if begin < end else start, stop
    if begin < end:
        yield begin, end
