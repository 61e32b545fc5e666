"""The layout of onnxruntime's MatMulNBits and GatherBlockQuantized.

``weight`` is uint8 ``(rows, blocks, block_size * bits / 8)``: 4-bit values two to a byte, the even column in the low
half. ``scales`` is ``(rows, blocks)``, of the scheme's type; the graph casts others than float32 once, at load.
``zero_points``, only of an asymmetric scheme, is uint8 ``(rows, ceil(blocks * bits / 8))``. A weight that stays
floating point numbers is ``weight`` alone, row by row.

Source: onnxruntime, docs/ContribOperators.md, com.microsoft.MatMulNBits.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from zoo.contracts import ArrayLayout, BlockTile, Encoding, Tile
from zoo.declarations.scheme import FloatScheme, Scheme
from zoo.errors import ZooError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


BLOCKS = (16, 32, 64, 128, 256)
"""Sizes that the kernels take."""


class MatMulNBits(Encoding):
    """MatMulNBits' layout: 8-bit levels lie as they come, 4-bit ones are packed."""

    def arrays(self, scheme: Scheme, shape: tuple[int, ...]) -> dict[str, ArrayLayout]:
        """Lay out ``weight``, ``scales`` and, when asymmetric, ``zero_points``."""
        if isinstance(scheme, FloatScheme):
            return {"weight": ArrayLayout(scheme.dtype, shape, "values")}
        if scheme.block_size not in BLOCKS:
            raise ZooError(
                f"target 'ort' stores blocks of {', '.join(map(str, BLOCKS))} columns, not of {scheme.block_size}; "
                "choose one of them by --block-size"
            )
        rows, blocks, whole = shape[:-1], scheme.blocks(shape[-1]), scheme.bits == 8
        layouts = {
            "weight": ArrayLayout(
                "uint8", (*rows, blocks, scheme.block_size * scheme.bits // 8), "levels" if whole else None
            ),
            "scales": ArrayLayout(
                scheme.scale_type, (*rows, blocks), "scales" if scheme.scale_type == "float32" else None
            ),
        }
        if not scheme.symmetric:
            points = (*rows, -(-blocks * scheme.bits // 8))
            layouts["zero_points"] = ArrayLayout("uint8", points, "zero_points" if whole else None)
        return layouts

    def encode(self, scheme: Scheme, tile: Tile, out: Mapping[str, NDArray[Any]]) -> None:
        """Pack 4-bit levels and zero points, two to a byte, and store scales in their type."""
        if not isinstance(tile, BlockTile) or isinstance(scheme, FloatScheme):
            return
        if scheme.scale_type != "float32":
            from zoo.quantizers.narrow import narrowed

            out["scales"][...] = narrowed(tile.scales, scheme.scale_type)
        if scheme.bits == 8:
            return
        pack_pairs(tile.levels, out["weight"])
        if tile.zero_points is not None:
            pack(tile.zero_points, out["zero_points"])

    def decode(self, scheme: Scheme, arrays: Mapping[str, NDArray[Any]], tile: Tile) -> None:
        """Spread 4-bit levels and zero points, one to a byte, and widen scales."""
        if not isinstance(tile, BlockTile) or isinstance(scheme, FloatScheme):
            return
        if scheme.scale_type != "float32":
            from zoo.quantizers.narrow import widened

            tile.scales[...] = widened(arrays["scales"], scheme.scale_type)
        if scheme.bits == 8:
            return
        unpack(arrays["weight"], tile.levels)
        if tile.zero_points is not None:
            unpack(arrays["zero_points"], tile.zero_points)


ENCODING = MatMulNBits()


def pack_pairs(levels: NDArray[np.uint8], out: NDArray[np.uint8]) -> None:
    """Store 4-bit levels (..., an even number) two to a byte, the even one low; ``levels`` are used up.

    Neighbours are the bytes of a 16-bit number: shifted right by four, the odd one comes to lie above the even one.
    """
    import numpy as np

    pairs = levels.view("<u2")
    np.bitwise_or(pairs, np.right_shift(pairs, 4), out=pairs)
    np.copyto(out, pairs, casting="unsafe")


def pack(levels: NDArray[np.uint8], out: NDArray[np.uint8]) -> None:
    """Store 4-bit levels (..., n) two to a byte, the even one low; an odd last one gets a zero as its partner."""
    low, high = levels[..., 0::2], levels[..., 1::2]
    out[...] = low
    out[..., : high.shape[-1]] |= high << 4


def unpack(packed: NDArray[np.uint8], out: NDArray[np.uint8]) -> None:
    """Spread 4-bit levels, two to a byte with the even one low, over the last axis of ``out``."""
    out[..., 0::2] = packed[..., : (out.shape[-1] + 1) // 2] & 15
    out[..., 1::2] = packed[..., : out.shape[-1] // 2] >> 4
