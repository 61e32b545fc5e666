"""A checkpoint whose rows are read once for several readers that follow each other closely."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zoo.contracts import BlockTile, Checkpoint, CheckpointOver, flat_shape
from zoo.sources.content import SLAB

Piece = Sequence[NDArray[Any]]
"""Rows of a tensor: the values, or levels, scales and perhaps zero points of blocks."""


class SharedReads(CheckpointOver):
    """Keeps the pieces that were read last, whole rows of a tensor each, until others took their place.

    Args:
        base: what is read.
        capacity: bytes of the pieces that are kept; the newest one is, whatever its size.
    """

    def __init__(self, base: Checkpoint, capacity: int) -> None:
        super().__init__(base)
        self._left = capacity
        self._kept: OrderedDict[tuple[str, str, int], Future[Piece]] = OrderedDict()
        self._lock = threading.Lock()

    def read(self, name: str, start: int, stop: int, out: NDArray[np.uint8] | None = None) -> NDArray[Any]:
        """Copy rows from the pieces that they lie in."""

        def load(first: int, last: int) -> Piece:
            return (self.base.read(name, first, last),)

        parts = [values for (values,) in self._parts("rows", name, start, stop, load)]
        shape, dtype = (stop - start, *parts[0].shape[1:]), parts[0].dtype
        if out is not None:
            out = out[: (stop - start) * parts[0][:1].nbytes].view(dtype).reshape(shape)
        return np.concatenate(parts, out=out)

    def read_blocks(self, name: str, start: int, stop: int) -> BlockTile:
        """Copy blocks from the pieces that their rows lie in."""
        read = super().read_blocks

        def load(first: int, last: int) -> Piece:
            tile = read(name, first, last)
            return [one for one in (tile.levels, tile.scales, tile.zero_points) if one is not None]

        levels, scales, *points = map(np.concatenate, zip(*self._parts("blocks", name, start, stop, load), strict=True))
        return BlockTile(start, stop, levels, scales, points[0] if points else None)

    def _parts(self, kind: str, name: str, start: int, stop: int, load: Callable[[int, int], Piece]) -> Iterator[Piece]:
        """Give the rows of each piece that lie between ``start`` and ``stop``."""
        info = self.tensors[name]
        rows = flat_shape(info.shape)[0]
        step = max(1, SLAB * rows // max(1, info.nbytes))
        for begin in range(start - start % step, max(stop, start + 1), step):
            piece = self._piece((kind, name, begin), partial(load, begin, min(begin + step, rows)))
            low, high = max(start - begin, 0), max(stop - begin, 0)
            yield [array[low:high] for array in piece]

    def _piece(self, key: tuple[str, str, int], load: Callable[[], Piece]) -> Piece:
        with self._lock:
            future = self._kept.get(key)
            mine = future is None
            if future is None:
                future = self._kept[key] = Future()
            self._kept.move_to_end(key)
        if mine:
            try:
                piece = load()
            except BaseException as error:
                with self._lock:
                    del self._kept[key]
                future.set_exception(error)
                raise
            future.set_result(piece)
            self._forget(_size(piece))
        return future.result()

    def _forget(self, size: int) -> None:
        """Make room for a piece by dropping those that nobody asked for the longest time."""
        with self._lock:
            self._left -= size
            for key, other in list(self._kept.items())[:-1]:
                if self._left >= 0:
                    break
                if other.done():
                    self._left += _size(other.result())
                    del self._kept[key]


def _size(piece: Piece) -> int:
    return sum(array.nbytes for array in piece)
