"""How small a weight gets: what a quantizer decides, before a target decides how that lies in a file."""

from __future__ import annotations

from typing import Literal

from zoo.declarations.base import Value


class FloatScheme(Value):
    """A weight kept as floating point numbers."""

    kind: Literal["float"] = "float"
    dtype: Literal["float32", "float16"]


class BlockScheme(Value):
    """A matrix whose rows are cut into blocks of columns that share a scale.

    A value is ``scale * (level - zero_point)``, with levels from 0 to ``2 ** bits - 1``. With ``symmetric``, every zero
    point is ``2 ** (bits - 1)``; otherwise each block has its own. A row whose length is no multiple of the block ends
    in a block that is filled up with zeros.
    """

    kind: Literal["block"] = "block"
    bits: Literal[4, 8]
    block_size: Literal[16, 32, 64, 128, 256]
    symmetric: bool = True

    def blocks(self, columns: int) -> int:
        """Count the blocks of a row."""
        return -(-columns // self.block_size)


Scheme = FloatScheme | BlockScheme
