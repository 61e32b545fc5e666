"""Types whose blocks a package can store as they are: ``Q8_0`` and ``Q4_0``.

Layouts: ggml's ``block_q8_0`` and ``block_q4_0`` (``ggml-common.h``), a float16 scale before 32 levels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from zoo import BlockScheme, BlockTile

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SIZE = 32
SCHEMES = {
    "Q8_0": BlockScheme(bits=8, block_size=SIZE, scale_type="float16"),
    "Q4_0": BlockScheme(bits=4, block_size=SIZE, scale_type="float16"),
}


def tile_of(raw: NDArray[np.uint8], kind: str, start: int) -> BlockTile:
    """Take rows as stored, (rows, row bytes), apart.

    Args:
        kind: a key of ``SCHEMES``.
        start: the first row.
    """
    import numpy as np

    rows = len(raw)
    blocks = raw.reshape(rows, -1, 2 + SIZE * SCHEMES[kind].bits // 8)
    scales = np.ascontiguousarray(blocks[..., :2]).view("<f2")[..., 0].astype(np.float32)
    stored = blocks[..., 2:]
    # Signed levels, or the two halves of a block over each other.
    levels = stored ^ 0x80 if kind == "Q8_0" else np.concatenate([stored & 15, stored >> 4], axis=-1)
    return BlockTile(start, start + rows, levels, scales, None)
