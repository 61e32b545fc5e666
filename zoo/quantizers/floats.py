"""Weights kept as floating point numbers: fp32 and fp16."""

from __future__ import annotations

from typing import ClassVar

from zoo.contracts import FloatTile, LayerActivations, Parameter, Slab, Tile, TileWriter
from zoo.declarations.base import Value
from zoo.declarations.recipe import Precision
from zoo.declarations.scheme import FloatScheme


class FloatOptions(Value):
    """There is nothing to choose."""


class Float:
    """Store weights as float32 or float16; norms and biases stay float32."""

    Options: ClassVar[type[FloatOptions]] = FloatOptions
    precisions: ClassVar[tuple[Precision, ...]] = ("fp32", "fp16")
    needs_activations: ClassVar[bool] = False

    def __init__(self, precision: Precision, options: FloatOptions) -> None:
        self.precision = precision
        self.options = options

    def scheme(self, parameter: Parameter) -> FloatScheme:
        """Keep matrices in the precision's type and vectors in float32."""
        half = self.precision == "fp16" and parameter.kind in ("linear", "embedding")
        return FloatScheme(dtype="float16" if half else "float32")

    def quantize(
        self, parameter: Parameter, slab: Slab, out: TileWriter, activations: LayerActivations | None = None
    ) -> None:
        """Copy the slab's rows, tile by tile."""
        for tile in out.tiles(slab.tile_rows):
            copy_floats(slab, tile)


def copy_floats(slab: Slab, tile: Tile) -> None:
    """Fill a tile of floats with the slab's values."""
    assert isinstance(tile, FloatTile)
    kind, rows = tile.values.dtype.name, (tile.start, tile.stop)
    if kind == "uint16":
        tile.values[...] = slab.bfloat16(*rows)
    else:
        tile.values[...] = slab.float16(*rows) if kind == "float16" else slab.float32(*rows)
