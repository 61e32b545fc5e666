"""4-bit levels two to a byte, and back: the layout of ``BlockStorage``."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def unpack(packed: NDArray[np.uint8], bits: int) -> NDArray[np.uint8]:
    """Spread 4-bit values, two to a byte with the even one low, over the last axis; 8-bit values are as they are."""
    if bits == 8:
        return packed
    wide: NDArray[np.uint8] = np.empty((*packed.shape[:-1], packed.shape[-1] * 2), np.uint8)
    wide[..., 0::2] = packed & 15
    wide[..., 1::2] = packed >> 4
    return wide


def pack(levels: NDArray[np.uint8], bits: int, out: NDArray[np.uint8]) -> None:
    """Store levels (..., n) as bytes: the inverse of ``unpack``; an odd last one gets a zero as its partner."""
    if bits == 8:
        out[...] = levels
        return
    low, high = levels[..., 0::2], levels[..., 1::2]
    out[...] = low
    out[..., : high.shape[-1]] |= high << 4
