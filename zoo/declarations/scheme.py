"""How small a weight gets: what a quantizer decides, before a target decides how that lies in a file."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from zoo.declarations.base import Value

FloatType = Literal["float32", "float16", "bfloat16"]


class FloatScheme(Value):
    """A weight kept as floating point numbers."""

    kind: Literal["float"] = "float"
    dtype: FloatType


class BlockScheme(Value):
    """A matrix whose rows are cut into blocks of columns that share a scale.

    A value is ``scale * (level - zero_point)``, with levels from 0 to ``2 ** bits - 1``. With ``symmetric``, every zero
    point is ``2 ** (bits - 1)``; otherwise each block has its own. A row whose length is not a multiple of the block
    ends in a block that is filled up with zeros.
    """

    kind: Literal["block"] = "block"
    bits: Literal[4, 8]
    block_size: Annotated[int, Field(ge=16)]
    symmetric: bool = True
    scale_type: FloatType = "float32"
    """What scales are stored as: they are rounded to it first, and levels are chosen for the rounded scale."""

    def blocks(self, columns: int) -> int:
        """Count the blocks of a row."""
        return -(-columns // self.block_size)


Scheme = FloatScheme | BlockScheme
