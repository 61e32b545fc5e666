"""Between a quantizer and a target: neutral tiles of rows, and how a target lays them in arrays of its own."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

from zoo.declarations.dtypes import BY_NAME
from zoo.declarations.scheme import Scheme

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(slots=True, eq=False)
class FloatTile:
    """Rows of a weight that stays floating point numbers."""

    start: int
    """The first row, counted in the slab."""
    stop: int
    values: NDArray[Any]
    """(rows, columns), of the scheme's type; bfloat16 as bit patterns, uint16."""


@dataclass(slots=True, eq=False)
class BlockTile:
    """Rows of a weight in blocks; the columns past a row's last are to be levels that stand for zero."""

    start: int
    """The first row, counted in the slab."""
    stop: int
    levels: NDArray[np.uint8]
    """(rows, blocks, block_size), one a value."""
    scales: NDArray[np.float32]
    """(rows, blocks), rounded to the scheme's ``scale_type`` already."""
    zero_points: NDArray[np.uint8] | None
    """(rows, blocks), one a block; None where the scheme is symmetric."""


Tile = FloatTile | BlockTile


class TileWriter(Protocol):
    """Where a quantizer puts the rows of a slab."""

    scheme: Scheme

    def tiles(self, rows: int) -> Iterator[Tile]:
        """Hand out the slab's rows, so many at a time, as arrays to fill; each is stored when the next is asked for.

        Many rows at once suit a quantizer that computes over all of them; ``slab.tile_rows`` keeps one in the cache.
        """
        ...


RowAxis = Literal["first", "last", "none"]
"""Where the rows of a weight lie in an array: its leading axes, one row behind the other; its last axis, so that a row
is a column of the file, and all is held until the last is filled; or nowhere, since the scheme alone decides it."""


@dataclass(frozen=True, slots=True)
class ArrayLayout:
    """One array of a stored weight, and where the weight's rows lie in it."""

    dtype: str
    """NumPy's name, for example ``uint8``."""
    shape: tuple[int, ...]
    holds: Literal["values", "levels", "scales", "zero_points"] | None = None
    """The array of a tile that lies in it as it is: a quantizer writes it in place, and nothing is left to encode."""
    rows: RowAxis = "first"

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * BY_NAME[self.dtype].nbytes


class Encoding(Protocol):
    """How a target lays weights in arrays.

    A class that names this protocol as its base and whose arrays all hold one of a tile's needs ``arrays`` alone.
    """

    def arrays(self, scheme: Scheme, shape: tuple[int, ...]) -> dict[str, ArrayLayout]:
        """Lay out the arrays of a weight of this shape; the first, the largest, is written a slab at a time where its
        rows come first.

        Raises:
            ZooError: the target cannot store such a scheme.
        """
        ...

    def encode(self, scheme: Scheme, tile: Tile, out: Mapping[str, NDArray[Any]]) -> None:
        """Fill rows of the arrays from a tile, but for those that hold one of its arrays as it is.

        The tile is not looked at again, so its arrays may serve as room to work in. Called from several threads.

        Args:
            out: array name → (rows, ...), those that lie last too; arrays without rows are left out.
        """
        return

    def fill(self, scheme: Scheme, name: str, out: NDArray[Any]) -> None:
        """Fill a whole array that has no rows."""
        return

    def decode(self, scheme: Scheme, arrays: Mapping[str, NDArray[Any]], tile: Tile) -> None:
        """Fill a tile from rows of the arrays: the inverse of ``encode``."""
        return
