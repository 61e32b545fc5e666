"""Tensors that do not lie row by row, as one does that was transposed before it was saved.

A memory map would read them in a line, and would turn an error of the disk into a signal that ends the process.
Ordinary reads fail in an ordinary way; the question is only how much to take at once.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

_READ = 2**19
"""Bytes of a read, at most; short of those after which the page cache is told to forget, since the next rows lie there
too."""
_GAP = 2**16
"""Bytes that are sooner read and dropped than skipped by a read more."""


def read_strided(
    read: Callable[[int, memoryview], None], out: NDArray[Any], offset: int, strides: tuple[int, ...]
) -> None:
    """Gather a tensor.

    Args:
        read: fills a view from a position of the file, in bytes.
        out: what to fill, of the tensor's type and shape.
        offset: where the first value lies, in bytes.
        strides: how far each axis's next value lies, in values; never negative.
    """
    if not out.size:
        return
    item = out.dtype.itemsize
    axes = sorted((axis for axis in range(out.ndim) if out.shape[axis] > 1), key=lambda axis: strides[axis])
    inner, span = 0, 1
    while inner < len(axes):
        step, size = strides[axes[inner]], out.shape[axes[inner]]
        if not _near(step, span, item) or (span + (size - 1) * step) * item > _READ:
            break
        span += (size - 1) * step
        inner += 1
    # The first axis that is not read whole is cut in pieces, of one index each where its values lie far apart.
    cut = axes[inner] if inner < len(axes) else None
    step = strides[cut] if cut is not None else 0
    piece = max(1, (_READ // item - span) // step + 1) if cut is not None and _near(step, span, item) else 1
    buffer = np.empty((span + (piece - 1) * step) * item, np.uint8)
    steps = [stride * item for stride in strides]
    index: list[Any] = [slice(None) if axis in axes[:inner] else 0 for axis in range(out.ndim)]
    outer = axes[inner + 1 :]
    starts = range(0, out.shape[cut], piece) if cut is not None else range(1)
    for place in itertools.product(*(range(out.shape[axis]) for axis in outer)):
        begin = offset
        for axis, at in zip(outer, place, strict=True):
            index[axis] = at
            begin += at * steps[axis]
        for start in starts:
            count = 1
            if cut is not None:
                count = min(piece, out.shape[cut] - start)
                index[cut] = slice(start, start + count)
            read(begin + start * step * item, buffer.data[: (span + (count - 1) * step) * item])
            into = out[tuple(index)]
            taken = [steps[axis] for axis, one in enumerate(index) if isinstance(one, slice)]
            into[...] = np.ndarray(into.shape, out.dtype, buffer, 0, taken)


def read_rows(
    read: Callable[[int, memoryview], None],
    out: NDArray[Any],
    offset: int,
    shape: tuple[int, ...],
    strides: tuple[int, ...],
    start: int,
) -> None:
    """Gather rows of a tensor from ``start`` on, a row running along the last axis and counted over all the others.

    Args:
        out: what to fill, of the tensor's type: (rows, columns), or (rows,) of a vector.
        offset: where the tensor's first value lies, in bytes.
    """
    if len(shape) < 2:
        read_strided(read, out, offset + start * strides[0] * out.itemsize, strides)
        return
    inner, at = shape[-2], 0
    while at < len(out):
        block, row = divmod(start + at, inner)
        count = min(inner - row, len(out) - at)
        begin = row * strides[-2]
        for axis in range(len(shape) - 3, -1, -1):
            block, place = divmod(block, shape[axis])
            begin += place * strides[axis]
        read_strided(read, out[at : at + count], offset + begin * out.itemsize, strides[-2:])
        at += count


def _near(step: int, span: int, item: int) -> bool:
    """Tell whether the next value of an axis lies so near that one read takes both."""
    return step * item <= max(_GAP, 2 * span * item)
