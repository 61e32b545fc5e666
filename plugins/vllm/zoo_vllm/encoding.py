"""How vLLM finds a quantized weight: compressed-tensors' layouts of levels and scales.

``pack-quantized``: levels, counted from zero, as the bits of int32, the first column in the lowest; so 8-bit levels are
bytes as they come, and 4-bit ones are two to a byte, the even column low. ``int-quantized``: levels less 128 as int8.
Scales are (rows, blocks) of a 16-bit type. A weight that stays floats is one array.

``gptq``: the same words of levels, and the scales, with rows along the last axis; a zero point for each, which is
stored less one, and the group of each column. Older servers know this layout.

Source: compressed-tensors 0.20, ``compressors/pack_quantized`` and ``compressors/naive_quantized``; AutoGPTQ 0.7,
``nn_modules/qlinear`` (``pack``).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import zoo
from zoo import ArrayLayout, BlockTile, Encoding

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from zoo import Scheme, Tile

SCALE = "weight_scale"


class Packed(Encoding):
    """The layout ``pack-quantized``."""

    levels = "weight_packed"

    def arrays(self, scheme: Scheme, shape: tuple[int, ...]) -> dict[str, ArrayLayout]:
        """Lay out levels, as bytes, and scales."""
        if scheme.kind == "float":
            return {"": ArrayLayout(scheme.dtype, shape, "values")}
        levels = ArrayLayout("uint8", (shape[0], shape[1] * scheme.bits // 8), "levels" if scheme.bits == 8 else None)
        return {self.levels: levels, SCALE: ArrayLayout(scheme.scale_type, (shape[0], scheme.blocks(shape[1])))}

    def encode(self, scheme: Scheme, tile: Tile, out: Mapping[str, NDArray[Any]]) -> None:
        """Pack 4-bit levels; store scales in their type."""
        if scheme.kind == "float" or not isinstance(tile, BlockTile):
            return
        out[SCALE][...] = zoo.narrowed(tile.scales, scheme.scale_type)
        if scheme.bits == 4:
            levels = tile.levels.reshape(len(tile.levels), -1)
            out[self.levels][...] = levels[:, 0::2]
            out[self.levels][...] |= levels[:, 1::2] << 4

    def decode(self, scheme: Scheme, arrays: Mapping[str, NDArray[Any]], tile: Tile) -> None:
        """Spread 4-bit levels, one to a byte; widen scales."""
        if scheme.kind == "float" or not isinstance(tile, BlockTile):
            return
        tile.scales[...] = zoo.widened(arrays[SCALE], scheme.scale_type)
        if scheme.bits == 4:
            levels = tile.levels.reshape(len(tile.levels), -1)
            levels[:, 0::2] = arrays[self.levels] & 15
            levels[:, 1::2] = arrays[self.levels] >> 4


class Gptq(Packed):
    """The layout ``gptq``: what stands for one row is a column of each array."""

    def arrays(self, scheme: Scheme, shape: tuple[int, ...]) -> dict[str, ArrayLayout]:
        """Lay out words of levels and of zero points, groups, and scales."""
        if scheme.kind == "float":
            return super().arrays(scheme, shape)
        (rows, columns), words, groups = shape, 32 // scheme.bits, scheme.blocks(shape[1])
        return {
            "qweight": ArrayLayout("int32", (columns // words, rows), rows="last"),
            "qzeros": ArrayLayout("int32", (groups, rows // words), rows="none"),
            "g_idx": ArrayLayout("int32", (columns,), rows="none"),
            "scales": ArrayLayout(scheme.scale_type, (groups, rows), rows="last"),
        }

    def fill(self, scheme: Scheme, name: str, out: NDArray[Any]) -> None:
        """Say that groups follow each other, and that levels are counted from the middle."""
        if scheme.kind == "block":
            if name == "g_idx":
                for group in range(scheme.blocks(len(out))):
                    out[group * scheme.block_size : (group + 1) * scheme.block_size] = group
            else:
                out[...] = 0x77777777 if scheme.bits == 4 else 0x7F7F7F7F

    def encode(self, scheme: Scheme, tile: Tile, out: Mapping[str, NDArray[Any]]) -> None:
        """Pack levels, the first column in the lowest bits; store scales in their type."""
        if scheme.kind == "block" and isinstance(tile, BlockTile):
            out["scales"][...] = zoo.narrowed(tile.scales, scheme.scale_type)
            levels = tile.levels.reshape(len(tile.levels), -1)
            if scheme.bits == 4:
                levels = levels[:, 0::2] | levels[:, 1::2] << 4
            out["qweight"][...] = levels.view("<i4")

    def decode(self, scheme: Scheme, arrays: Mapping[str, NDArray[Any]], tile: Tile) -> None:
        """Spread levels, one to a byte; widen scales."""
        if scheme.kind == "block" and isinstance(tile, BlockTile):
            tile.scales[...] = zoo.widened(arrays["scales"], scheme.scale_type)
            levels, words = tile.levels.reshape(len(tile.levels), -1), arrays["qweight"].copy("C").view("uint8")
            if scheme.bits == 8:
                levels[...] = words
            else:
                levels[:, 0::2], levels[:, 1::2] = words & 15, words >> 4


class Signed(Packed):
    """The layout ``int-quantized``: 8 bits, a scale a row, activations quantized by the server."""

    levels = "weight"

    def arrays(self, scheme: Scheme, shape: tuple[int, ...]) -> dict[str, ArrayLayout]:
        """Lay out levels around zero, and scales."""
        if scheme.kind == "float":
            return super().arrays(scheme, shape)
        return {self.levels: ArrayLayout("int8", shape), SCALE: ArrayLayout(scheme.scale_type, (shape[0], 1))}

    def encode(self, scheme: Scheme, tile: Tile, out: Mapping[str, NDArray[Any]]) -> None:
        """Count levels from -128, in two's complement; store scales in their type."""
        if scheme.kind == "block" and isinstance(tile, BlockTile):
            out[SCALE][...] = zoo.narrowed(tile.scales, scheme.scale_type)
            levels = tile.levels.reshape(len(tile.levels), -1)
            out[self.levels][...] = (levels ^ 128).view("int8")

    def decode(self, scheme: Scheme, arrays: Mapping[str, NDArray[Any]], tile: Tile) -> None:
        """Count levels from zero again; widen scales."""
        if scheme.kind == "block" and isinstance(tile, BlockTile):
            tile.scales[...] = zoo.widened(arrays[SCALE], scheme.scale_type)
            tile.levels.reshape(len(tile.levels), -1)[...] = arrays[self.levels].view("uint8") ^ 128


ENCODINGS: dict[str, Encoding] = {"pack-quantized": Packed(), "int-quantized": Signed(), "gptq": Gptq()}
