"""How a weight lies in a package: pure arithmetic over shapes, so that a plan can be made before a weight is read."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import Field

from zoo.declarations.base import Value
from zoo.declarations.dtypes import BY_NAME

DType = Literal["float32", "float16", "uint8", "int64"]


class ArrayLayout(Value):
    """One array of a stored weight."""

    dtype: DType
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * BY_NAME[self.dtype].nbytes


class FloatStorage(Value):
    """A weight kept as floating point numbers, row-major, in the checkpoint's own order (out_features, in_features)."""

    kind: Literal["float"] = "float"
    dtype: Literal["float32", "float16"]

    def arrays(self, shape: tuple[int, ...]) -> dict[str, ArrayLayout]:
        """Lay out the one array, ``weight``."""
        return {"weight": ArrayLayout(dtype=self.dtype, shape=shape)}


class BlockStorage(Value):
    """A matrix quantized in blocks along its rows, in the layout of onnxruntime's MatMulNBits.

    ``weight`` is uint8 ``(rows, blocks, block_size * bits / 8)``: 4-bit values two to a byte, the even column in the
    low half. ``scales`` is float32 ``(rows, blocks)``. ``zero_points``, only when ``symmetric`` is false, is uint8
    ``(rows, ceil(blocks * bits / 8))``. The value is ``scale * (q - zero_point)``; symmetric storage has the implied
    zero point ``2 ** (bits - 1)``. A row whose length is no multiple of the block is padded with zeros.

    Source: onnxruntime, docs/ContribOperators.md, com.microsoft.MatMulNBits.
    """

    kind: Literal["block"] = "block"
    bits: Literal[4, 8]
    block_size: Literal[16, 32, 64, 128, 256]
    symmetric: bool = True

    def blocks(self, columns: int) -> int:
        """Count the blocks of a row."""
        return -(-columns // self.block_size)

    def arrays(self, shape: tuple[int, ...]) -> dict[str, ArrayLayout]:
        """Lay out ``weight``, ``scales`` and, when asymmetric, ``zero_points`` of a (rows, columns) matrix."""
        rows, columns = shape
        blocks = self.blocks(columns)
        layout = {
            "weight": ArrayLayout(dtype="uint8", shape=(rows, blocks, self.block_size * self.bits // 8)),
            "scales": ArrayLayout(dtype="float32", shape=(rows, blocks)),
        }
        if not self.symmetric:
            layout["zero_points"] = ArrayLayout(dtype="uint8", shape=(rows, -(-blocks * self.bits // 8)))
        return layout


Storage = Annotated[FloatStorage | BlockStorage, Field(discriminator="kind")]
