"""The packed tensors of a checkpoint: rows, columns in bands, small ones whole; what is read again soon is kept."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zoo import Checkpoint, ReadsColumns, TensorInfo, ZooError

BAND = 4 * 2**20
"""Bytes of columns that are read at once."""
KEPT = 32 * 2**20
"""Bytes of bands and small tensors that are kept."""
SMALL = 64 * 2**20
"""Bytes of the largest tensor that may be read whole: scales and the like."""


class Stored:
    """Reads packed tensors; safe to use from several threads.

    Args:
        base: the checkpoint; replaced when its weights are brought to this machine.
    """

    def __init__(self, base: Checkpoint) -> None:
        self.base = base
        self._kept: OrderedDict[tuple[str, int], NDArray[Any]] = OrderedDict()
        self._lock = threading.RLock()

    def info(self, name: str) -> TensorInfo:
        """Describe a tensor.

        Raises:
            ZooError: it is missing.
        """
        if name not in self.base.tensors:
            raise ZooError(f"{self.base.name}: tensor {name!r} is missing")
        return self.base.tensors[name]

    def expect(self, name: str, shape: tuple[int, ...], *dtypes: str) -> None:
        """Check a tensor's shape and type.

        Raises:
            ZooError: it is missing, or has others.
        """
        info = self.info(name)
        if info.shape != shape or info.dtype not in dtypes:
            raise ZooError(
                f"{self.base.name}: tensor {name!r} is {info.dtype} {list(info.shape)}, "
                f"but its layer has {' or '.join(dtypes)} {list(shape)}"
            )

    def matrix(self, name: str) -> tuple[int, int]:
        """Give the shape of a matrix.

        Raises:
            ZooError: it is missing, of another number of axes, or empty.
        """
        shape = self.info(name).shape
        if len(shape) != 2 or 0 in shape:
            raise ZooError(f"{self.base.name}: tensor {name!r} is {list(shape)}, where a matrix belongs")
        return shape[0], shape[1]

    def rows(self, name: str, start: int, stop: int) -> NDArray[Any]:
        """Read rows as stored; a row runs along the last axis."""
        return self.base.read(name, start, stop)

    def whole(self, name: str) -> NDArray[Any]:
        """Read a small tensor whole, as stored."""
        info = self.info(name)
        if info.nbytes > SMALL:
            raise ZooError(f"{self.base.name}: tensor {name!r} takes {info.nbytes} bytes, more than such a tensor does")
        count = int(np.prod(info.shape[:-1])) if len(info.shape) > 1 else int(np.prod(info.shape))
        return self._keep((name, -1), lambda: self.base.read(name, 0, count).reshape(info.shape))

    def columns(self, name: str, start: int, stop: int) -> NDArray[Any]:
        """Read columns of a matrix, (rows, stop - start), as stored."""
        info = self.info(name)
        width = info.nbytes // max(1, info.shape[1])
        band = max(1, BAND // max(1, width))
        pieces = []
        for first in range(start // band * band, stop, band):
            last = min(first + band, info.shape[1])
            held = self._keep((name, first), lambda first=first, last=last: self._read(name, first, last))
            pieces.append(held[:, max(start, first) - first : min(stop, last) - first])
        return pieces[0] if len(pieces) == 1 else np.concatenate(pieces, axis=1)

    def _read(self, name: str, first: int, last: int) -> NDArray[Any]:
        if isinstance(self.base, ReadsColumns):
            return self.base.read_columns(name, first, last)
        info = self.base.tensors[name]
        step = max(1, BAND * info.shape[0] // max(1, info.nbytes))
        cut = [
            self.base.read(name, row, min(row + step, info.shape[0]))[:, first:last].copy()
            for row in range(0, info.shape[0], step)
        ]
        return np.concatenate(cut)

    def _keep(self, key: tuple[str, int], read: Callable[[], NDArray[Any]]) -> NDArray[Any]:
        with self._lock:
            if key not in self._kept:
                self._kept[key] = read()
                while sum(array.nbytes for array in self._kept.values()) > KEPT and len(self._kept) > 1:
                    self._kept.popitem(last=False)
            self._kept.move_to_end(key)
            return self._kept[key]

    def floats(self, name: str, values: NDArray[Any]) -> NDArray[np.float32]:
        """Widen what was read of a tensor of floats.

        Raises:
            ZooError: a value is NaN or infinite, or the tensor holds no floats.
        """
        dtype = self.info(name).dtype
        if dtype == "BF16":
            wide = (values.astype(np.uint32) << 16).view(np.float32)
        elif dtype in ("F16", "F32"):
            wide = values.astype(np.float32)
        elif dtype == "F8_E8M0":
            wide = np.where(values == 255, np.nan, np.ldexp(np.float32(1), values.astype(np.int32) - 127))
        else:
            raise ZooError(f"{self.base.name}: tensor {name!r} is {dtype}, where scales are floats")
        if not np.isfinite(wide).all():
            raise ZooError(f"{self.base.name}: tensor {name!r} holds NaN or infinite values; the checkpoint is damaged")
        return wide


def unpacked(words: NDArray[Any], bits: int) -> NDArray[np.uint8]:
    """Spread 4- or 8-bit integers that are packed along the last axis, the lowest bits first: (..., n · 8 / bits)."""
    raw = np.ascontiguousarray(words).view(np.uint8)
    if bits == 8:
        return raw
    out = np.empty((*raw.shape[:-1], raw.shape[-1] * 2), np.uint8)
    np.bitwise_and(raw, 15, out=out[..., 0::2])
    np.right_shift(raw, 4, out=out[..., 1::2])
    return out
