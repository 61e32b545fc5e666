"""Numbers as a stored type holds them: float32, float16, or bfloat16 as bit patterns."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from zoo.declarations.scheme import FloatType


def narrowed(values: NDArray[np.float32], dtype: FloatType) -> NDArray[Any]:
    """Round float32 values to a type, to nearest even; what is past its largest number becomes infinite.

    Returns:
        An array of the same shape: of the type, or for bfloat16 its bit patterns, uint16.
    """
    if dtype == "float32":
        return values
    if dtype == "float16":
        with np.errstate(over="ignore"):
            return values.astype(np.float16)
    bits = np.ascontiguousarray(values).view(np.uint32)
    odd = (bits >> 16) & 1
    odd += 0x7FFF
    odd += bits  # no finite number wraps around: the largest bit pattern is that of a NaN
    odd >>= 16
    short = odd.astype(np.uint16)
    nan = np.isnan(values)
    if nan.any():
        short[nan] = 0x7FC0
    return short


def widened(stored: NDArray[Any], dtype: FloatType) -> NDArray[np.float32]:
    """Turn values that a type holds into float32, exactly: the inverse of ``narrowed``."""
    if dtype != "bfloat16":
        return stored.astype(np.float32, copy=False)
    wide = stored.astype(np.uint32)
    wide <<= 16
    return wide.view(np.float32)


def settle(scales: NDArray[np.float32], dtype: FloatType) -> None:
    """Round scales in place to what their stored type can hold, so that levels are chosen for the stored scale."""
    if dtype != "float32":
        scales[...] = widened(narrowed(scales, dtype), dtype)
