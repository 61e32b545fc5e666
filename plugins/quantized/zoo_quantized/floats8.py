"""8-bit floats as their bit patterns: one sign, four exponent and three fraction bits, no infinity, one NaN a sign.

Source: OCP 8-bit Floating Point Specification 1.0, E4M3; PyTorch's ``float8_e4m3fn``.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from zoo import ZooError


def _table() -> NDArray[np.float32]:
    codes = np.arange(256)
    exponent, fraction = (codes >> 3) & 15, codes & 7
    normal = (1 + fraction / 8) * 2.0 ** (exponent - 7)
    values = np.where(exponent == 0, fraction / 8 * 2.0**-6, normal) * np.where(codes & 128, -1, 1)
    values[(codes & 127) == 127] = np.nan
    return values.astype(np.float32)


E4M3 = _table()
"""The value of each bit pattern, float32 (256,)."""


def e4m3(name: str, raw: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Look up what bit patterns stand for.

    Raises:
        ZooError: one is NaN.
    """
    if (raw & 127 == 127).any():
        raise ZooError(f"tensor {name!r} holds NaN; the checkpoint is damaged")
    return E4M3[raw]
