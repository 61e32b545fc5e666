"""Tiles on their way into stored arrays, and back to the values that they stand for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zoo.contracts import ArrayLayout, BlockTile, Encoding, FloatTile, Tile
from zoo.declarations.dtypes import held_as
from zoo.declarations.scheme import FloatScheme, Scheme
from zoo.quantizers.narrow import widened
from zoo.quantizers.slab import RawSlab, Scratch

_PIECE = 1 << 22
"""Values that are widened to float32 at a time."""


class ArrayWriter:
    """Rows of stored arrays, filled a tile at a time (the ``TileWriter`` protocol).

    Args:
        columns: values of a row, padding of blocks not included.
        arrays: array name → (rows, ...).
        scratch: the buffers of the calling thread.
    """

    def __init__(
        self, encoding: Encoding, scheme: Scheme, columns: int, arrays: Mapping[str, NDArray[Any]], scratch: Scratch
    ) -> None:
        self.scheme = scheme
        self._encoding, self._columns, self._arrays, self._scratch = encoding, columns, arrays, scratch
        self._rows = len(next(iter(arrays.values())))
        layouts = encoding.arrays(scheme, (self._rows, columns))
        self._held = {layout.holds: name for name, layout in layouts.items() if layout.holds is not None}
        self.filled = 0
        """Rows that are stored."""
        self.others: Sequence[ArrayWriter] = ()
        """Writers of the same scheme, each with a scratch of its own, that store the same tiles of blocks."""

    def tiles(self, rows: int) -> Iterator[Tile]:
        """Hand out rows as arrays to fill; each tile is stored when the next is asked for."""
        for start in range(0, self._rows, rows):
            stop = min(start + rows, self._rows)
            tile = self.tile(start, stop)
            yield tile
            for other in self.others:
                other.store(_copied(tile, other.tile(start, stop)))
            self.store(tile)

    def store(self, tile: Tile) -> None:
        """Store a tile that was filled; its arrays may be used up."""
        self._encoding.encode(self.scheme, tile, self._part(tile.start, tile.stop))
        self.filled += tile.stop - tile.start

    def decoded(self, rows: int) -> Iterator[Tile]:
        """Read the stored rows back as tiles."""
        for start in range(0, self._rows, rows):
            stop = min(start + rows, self._rows)
            tile = self.tile(start, stop)
            self._encoding.decode(self.scheme, self._part(start, stop), tile)
            yield tile

    def _part(self, start: int, stop: int) -> dict[str, NDArray[Any]]:
        return {name: array[start:stop] for name, array in self._arrays.items()}

    def tile(self, start: int, stop: int) -> Tile:
        """Make the tile of some rows, in place where the stored arrays are the tile's own."""
        scheme, rows = self.scheme, stop - start

        def array(name: str, shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
            if name in self._held:
                return self._arrays[self._held[name]][start:stop].reshape(shape)
            return self._scratch.array(f"tile {name}", shape, dtype)

        if isinstance(scheme, FloatScheme):
            return FloatTile(start, stop, array("values", (rows, self._columns), held_as(scheme.dtype)))
        blocks = scheme.blocks(self._columns)
        return BlockTile(
            start,
            stop,
            array("levels", (rows, blocks, scheme.block_size), np.uint8),
            array("scales", (rows, blocks), np.float32),
            None if scheme.symmetric else array("zero_points", (rows, blocks), np.uint8),
        )


def _copied(tile: Tile, copy: Tile) -> Tile:
    """Fill a tile with what another one holds."""
    if isinstance(tile, BlockTile) and isinstance(copy, BlockTile):
        copy.levels[...], copy.scales[...] = tile.levels, tile.scales
        if tile.zero_points is not None and copy.zero_points is not None:
            copy.zero_points[...] = tile.zero_points
    return copy


class Neutral(Encoding):
    """Arrays that are the tiles' own: for weights that are only looked at."""

    def arrays(self, scheme: Scheme, shape: tuple[int, ...]) -> dict[str, ArrayLayout]:
        """Lay out what a tile of this shape holds."""
        if isinstance(scheme, FloatScheme):
            return {"values": ArrayLayout(scheme.dtype, shape, "values")}
        blocks = (*shape[:-1], scheme.blocks(shape[-1]))
        layouts = {
            "levels": ArrayLayout("uint8", (*blocks, scheme.block_size), "levels"),
            "scales": ArrayLayout("float32", blocks, "scales"),
        }
        if not scheme.symmetric:
            layouts["zero_points"] = ArrayLayout("uint8", blocks, "zero_points")
        return layouts


NEUTRAL = Neutral()


def empty_arrays(encoding: Encoding, scheme: Scheme, shape: tuple[int, ...]) -> dict[str, NDArray[Any]]:
    """Make room for the arrays of a weight of this shape."""
    layouts = encoding.arrays(scheme, shape)
    return {name: np.empty(layout.shape, held_as(layout.dtype)) for name, layout in layouts.items()}


def read_back(
    encoding: Encoding,
    scheme: Scheme,
    arrays: Mapping[str, NDArray[Any]],
    out: NDArray[np.float32],
    scratch: Scratch | None = None,
) -> None:
    """Compute the values that stored rows stand for, as kernels read them.

    Args:
        arrays: array name → (rows, ...).
        out: (rows, columns) or, of a vector, (rows,).
    """
    values = out.reshape(len(out), -1)
    writer = ArrayWriter(encoding, scheme, values.shape[1], arrays, scratch or Scratch())
    for tile in writer.decoded(max(1, _PIECE // max(1, values.shape[1]))):
        dequantize(scheme, tile, values[tile.start : tile.stop])


def rounded(values: NDArray[np.float32], scheme: Scheme, name: str, scratch: Scratch) -> NDArray[np.float32]:
    """Compute what rows (rows, columns) stand for once they are rounded to nearest.

    Args:
        name: of the weight, for messages.
    """
    from zoo.quantizers.rtn import round_to_nearest

    arrays = empty_arrays(NEUTRAL, scheme, values.shape)
    round_to_nearest(
        RawSlab(values, "F32", name, scratch), ArrayWriter(NEUTRAL, scheme, values.shape[1], arrays, scratch)
    )
    stored = np.empty_like(values)
    read_back(NEUTRAL, scheme, arrays, stored, scratch)
    return stored


def dequantize(scheme: Scheme, tile: Tile, out: NDArray[np.float32]) -> None:
    """Compute the values (rows, columns) that a tile stands for: ``scale * (level - zero_point)``."""
    if isinstance(scheme, FloatScheme):
        assert isinstance(tile, FloatTile)
        out[...] = widened(tile.values, scheme.dtype)
        return
    assert isinstance(tile, BlockTile)
    values = tile.levels.astype(np.float32)
    if tile.zero_points is None:
        values -= np.float32(2 ** (scheme.bits - 1))
    else:
        values -= tile.zero_points.astype(np.float32)[..., None]
    values *= tile.scales[..., None]
    out[...] = values.reshape(len(out), -1)[:, : out.shape[1]]
