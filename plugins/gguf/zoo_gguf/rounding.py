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

        # The largest number below a half: with a half itself, rounding of the sum would carry what is just below one.
        half = np.nextafter(np.float32(0.5), np.float32(0)).view(np.uint32)
        for tile in out.tiles(slab.tile_rows):
            if not isinstance(tile, BlockTile):
                rows = {"float32": slab.float32, "float16": slab.float16}.get(tile.values.dtype.name, slab.bfloat16)
                tile.values[...] = rows(tile.start, tile.stop)
                continue
            np.divide(slab.absmax(tile.start, tile.stop, SIZE), np.float32(127), out=tile.scales)
            inverse = np.divide(np.float32(1), tile.scales, out=np.zeros_like(tile.scales), where=tile.scales != 0)
            blocks = slab.float32(tile.start, tile.stop).reshape(tile.levels.shape)
            np.multiply(blocks, inverse[..., None], out=blocks)
            # A half with the sign of each value; numpy's copysign takes four times as long.
            signed = np.bitwise_and(blocks.view(np.uint32), np.uint32(1 << 31))
            np.bitwise_or(signed, half, out=signed)
            np.add(blocks, signed.view(np.float32), out=blocks)
            np.copyto(tile.levels.view(np.int8), blocks, casting="unsafe")
            np.bitwise_xor(tile.levels, 0x80, out=tile.levels)
