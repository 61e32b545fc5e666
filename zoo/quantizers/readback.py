"""What stored arrays stand for, in float32."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zoo.declarations.storage import BlockStorage, FloatStorage
from zoo.quantizers.packing import unpack


def empty(storage: FloatStorage | BlockStorage, shape: tuple[int, ...]) -> dict[str, NDArray[Any]]:
    """Make room for the arrays of a weight of this shape."""
    return {name: np.empty(one.shape, one.dtype) for name, one in storage.arrays(shape).items()}


def dequantize(storage: FloatStorage | BlockStorage, arrays: Mapping[str, NDArray[Any]], out: NDArray[Any]) -> None:
    """Compute the values that stored rows stand for, as the kernels read them.

    Args:
        arrays: rows of ``weight``, ``scales`` and, where stored, ``zero_points``.
        out: float32 (rows, columns) or, of a vector, (rows,).
    """
    weight = arrays["weight"]
    if isinstance(storage, FloatStorage):
        out[...] = weight.reshape(out.shape)
        return
    rows, columns = out.shape
    scales = arrays["scales"]
    step = max(1, (1 << 22) // max(1, columns))
    for start in range(0, rows, step):
        stop = min(start + step, rows)
        levels = unpack(weight[start:stop], storage.bits).astype(np.float32)
        if storage.symmetric:
            levels -= np.float32(2 ** (storage.bits - 1))
        else:
            points = unpack(arrays["zero_points"][start:stop], storage.bits)[:, : scales.shape[1]]
            levels -= points.astype(np.float32)[..., None]
        levels *= scales[start:stop, :, None]
        out[start:stop] = levels.reshape(stop - start, -1)[:, :columns]
