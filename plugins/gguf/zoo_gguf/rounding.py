"""The quantizer ``ggml``: 8-bit blocks rounded as llama.cpp's converter rounds them, to the byte.

The level is the value over the scale before that is stored as float16, and a half goes away from zero. Source:
``quantize_row_q8_0_ref`` in ggml's ``ggml-quants.c``, and gguf-py's ``quants.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import BaseModel, ConfigDict

from zoo import BlockScheme, BlockTile, FloatScheme, LayerActivations, Parameter, Scheme, Slab, TileWriter
from zoo_gguf.encoding import SIZE

if TYPE_CHECKING:
    from zoo.declarations.recipe import Precision


_HALF_MOST = 2.0**127
"""What is below it can be doubled in float32."""


class GgmlOptions(BaseModel):
    """There is nothing to choose."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Ggml:
    """Round matrices to Q8_0; what its blocks do not divide, and vectors, stay floats (the ``Quantizer`` protocol)."""

    Options: ClassVar[type[GgmlOptions]] = GgmlOptions
    precisions: ClassVar[tuple[Precision, ...]] = ("int8",)
    needs_activations: ClassVar[bool] = False

    def __init__(self, precision: Precision, options: Any) -> None:
        self.options = options

    def scheme(self, parameter: Parameter) -> Scheme:
        """Cut matrices into blocks of 32."""
        if parameter.kind not in ("linear", "embedding"):
            return FloatScheme(dtype="float32")
        if parameter.shape[-1] % SIZE:
            return FloatScheme(dtype="float16")
        return BlockScheme(bits=8, block_size=SIZE)

    def quantize(
        self, parameter: Parameter, slab: Slab, out: TileWriter, activations: LayerActivations | None = None
    ) -> None:
        """Round the slab's rows."""
        import numpy as np

        for tile in out.tiles(slab.tile_rows):
            if not isinstance(tile, BlockTile):
                rows = {"float32": slab.float32, "float16": slab.float16}.get(tile.values.dtype.name, slab.bfloat16)
                tile.values[...] = rows(tile.start, tile.stop)
                continue
            np.divide(slab.absmax(tile.start, tile.stop, SIZE), np.float32(127), out=tile.scales)
            inverse = np.divide(np.float32(1), tile.scales, out=np.zeros_like(tile.scales), where=tile.scales != 0)
            early = inverse.max(initial=0) < _HALF_MOST
            values = slab.scaled(tile.start, tile.stop, inverse + inverse if early else inverse, SIZE)
            if not early:
                values += values
            # Cut off, twice the value is a number of halves, t. It is rounded, halves away from zero, by (t + 1) >> 1
            # where it is positive and by t >> 1 where it is negative, exactly.
            halves = values.astype(np.int16)
            negative = values.reshape(-1).view(np.int16)[: halves.size].reshape(halves.shape)
            np.right_shift(halves, 15, out=negative)
            halves += 257
            halves += negative
            halves >>= 1
            np.copyto(tile.levels.reshape(halves.shape), halves, casting="unsafe")
