"""Blocks of 32 columns as ggml lays them: a float16 scale, for Q4_1 a float16 minimum, and the levels.

Source: ggml's ``ggml-common.h`` (``block_q8_0``, ``block_q4_0``, ``block_q4_1``). 8-bit levels are int8; of 4-bit ones
the first half of a block lies in the low halves of its bytes. A level of Q4_1 stands for ``scale * level + minimum``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from zoo import ArrayLayout, BlockTile, Encoding, ZooError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from zoo import Scheme, Tile

SIZE = 32
LAYOUTS = {
    "Q8_0": [("scale", "<f2"), ("levels", "V32")],
    "Q4_0": [("scale", "<f2"), ("levels", "V16")],
    "Q4_1": [("scale", "<f2"), ("minimum", "<f2"), ("levels", "V16")],
}
"""Type → a block's parts, by NumPy's names of types."""
FLOATS = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}


def kind_of(scheme: Scheme) -> str:
    """Name ggml's type for a scheme.

    Raises:
        ZooError: there is none; the message says what would fit.
    """
    if scheme.kind == "float":
        return FLOATS[scheme.dtype]
    if scheme.block_size != SIZE:
        raise ZooError(
            f"target 'gguf' stores blocks of {SIZE} columns, not of {scheme.block_size}; choose --block-size {SIZE}"
        )
    if scheme.bits == 8 and not scheme.symmetric:
        raise ZooError(
            "target 'gguf' has no 8-bit blocks with zero points; leave --quantizer-option symmetric=false out"
        )
    return "Q8_0" if scheme.bits == 8 else "Q4_0" if scheme.symmetric else "Q4_1"


class Blocks(Encoding):
    """ggml's blocks, as bytes of each row (the ``Encoding`` protocol)."""

    def arrays(self, scheme: Scheme, shape: tuple[int, ...]) -> dict[str, ArrayLayout]:
        """Lay out one array: rows of blocks, or of floats."""
        if scheme.kind == "float":
            return {"": ArrayLayout(scheme.dtype, shape, "values")}
        size = {"Q8_0": 34, "Q4_0": 18, "Q4_1": 20}[kind_of(scheme)]
        return {"": ArrayLayout("uint8", (*shape[:-1], scheme.blocks(shape[-1]) * size))}

    def encode(self, scheme: Scheme, tile: Tile, out: Mapping[str, NDArray[Any]]) -> None:
        """Write each block's scale, minimum and levels."""
        if scheme.kind == "float" or not isinstance(tile, BlockTile):
            return
        import numpy as np

        blocks = out[""].view(LAYOUTS[kind_of(scheme)])
        blocks["scale"] = tile.scales
        if tile.zero_points is not None:
            blocks["minimum"] = -tile.scales * tile.zero_points
        levels = tile.levels
        if scheme.bits == 8:
            np.bitwise_xor(levels, 0x80, out=levels)
        else:
            levels = levels[..., : SIZE // 2] | levels[..., SIZE // 2 :] << 4
        blocks["levels"] = levels.view(blocks.dtype["levels"])[..., 0]

    def decode(self, scheme: Scheme, arrays: Mapping[str, NDArray[Any]], tile: Tile) -> None:
        """Read each block's scale, zero point and levels."""
        if scheme.kind == "float" or not isinstance(tile, BlockTile):
            return
        import numpy as np

        blocks = np.ascontiguousarray(arrays[""]).view(LAYOUTS[kind_of(scheme)])
        tile.scales[...] = blocks["scale"]
        stored = np.ascontiguousarray(blocks["levels"])[..., None].view(np.uint8)
        if scheme.bits == 8:
            np.bitwise_xor(stored, 0x80, out=tile.levels)
            return
        if tile.zero_points is not None:
            safe = np.where(tile.scales > 0, tile.scales, np.float32(1))
            tile.zero_points[...] = np.clip(np.rint(-blocks["minimum"] / safe), 0, 15)
        tile.levels[..., : SIZE // 2] = stored & 15
        tile.levels[..., SIZE // 2 :] = stored >> 4
