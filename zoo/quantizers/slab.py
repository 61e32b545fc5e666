"""Rows of a tensor as raw bits, and the fast ways from there to numbers.

numpy casts float16 to float32 one value at a time. Widening the integers is several times as fast: shift exponent and
fraction to their place in a float32, where the value is too small by the difference of the exponents' biases, 127 - 15,
and multiply by 2 ** 112. That is exact for every finite value, subnormal ones included. Exponent 31, infinity and NaN,
comes out as a finite number of at least 65536, so such values are looked for first, in the integers: bit patterns of
one sign are ordered as their magnitudes.

Source: IEEE 754-2019, 3.4 (binary interchange formats).
"""

from __future__ import annotations

import threading
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from zoo.declarations.dtypes import READABLE
from zoo.errors import ZooError
from zoo.quantizers.narrow import narrowed

TILE = 256 * 1024
"""Values in a tile: its float32 form stays in the second level cache, and numpy's calls stay long against the GIL's."""
_SIGN_EXPONENT_FRACTION = np.int32(np.uint32(0x8FFFE000).view(np.int32))
_REBIAS = np.float32(2.0**112)
_FUSED = 2.0**15
"""Factors below it do not overflow when they are multiplied by ``_REBIAS``."""
_INFINITY = {code: dtype.infinity for code, dtype in READABLE.items() if dtype.infinity is not None}
"""Bit pattern of infinity of the types that are handled in integers: the first that is not finite."""
F16_MAX = 65504.0


def widen_f16(bits: NDArray[np.uint16], out: NDArray[np.float32]) -> None:
    """Turn finite float16 bit patterns into float32, exactly; both arrays are contiguous and of one shape."""
    _shift_f16(bits, out)
    np.multiply(out, _REBIAS, out=out)


def _shift_f16(bits: NDArray[np.uint16], out: NDArray[np.float32]) -> None:
    """Turn finite float16 bit patterns into float32 that are too small by 2 ** 112, exactly."""
    wide = out.view(np.int32)
    np.copyto(wide, bits.view(np.int16))
    np.left_shift(wide, 13, out=wide)
    np.bitwise_and(wide, _SIGN_EXPONENT_FRACTION, out=wide)


def widen_bf16(bits: NDArray[np.uint16], out: NDArray[np.float32]) -> None:
    """Turn bfloat16 bit patterns into float32, exactly: they are the upper half of one."""
    wide = out.view(np.uint32)
    np.copyto(wide, bits)
    np.left_shift(wide, 16, out=wide)


_WIDEN = {"F16": widen_f16, "BF16": widen_bf16}


class Scratch(threading.local):
    """Buffers that a thread uses again and again, by name."""

    def __init__(self) -> None:
        self._buffers: dict[str, NDArray[np.uint8]] = {}

    def array(self, name: str, shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
        """Get a contiguous array of this shape; what it holds is left over."""
        kind = np.dtype(dtype)
        size = kind.itemsize
        for length in shape:
            size *= length
        buffer = self._buffers.get(name)
        if buffer is None or buffer.nbytes < size:
            buffer = self._buffers[name] = np.empty(size, np.uint8)
        array: NDArray[Any] = buffer[:size].view(kind).reshape(shape)
        return array


class RawSlab:
    """Rows of a parameter, padding included (the ``Slab`` protocol).

    Args:
        raw: (rows, columns) values as stored: F16, BF16 as uint16 bit patterns, or F32.
        dtype: F32, F16 or BF16.
        tensor: the name of the tensor, or of each that has rows in it, for messages.
        scratch: the buffers of the calling thread.
        offset: added to every value in float32, after it was multiplied by ``scale``.
        unit: rows are divided by their lengths instead; a row of zeros stays one.
        nonfinite: NaN and infinite values are let through by ``float32`` and ``float16``; the others refuse them still.
    """

    def __init__(
        self,
        raw: NDArray[Any],
        dtype: str,
        tensor: str | tuple[str, ...],
        scratch: Scratch,
        offset: float = 0.0,
        scale: float = 1.0,
        *,
        unit: bool = False,
        nonfinite: bool = False,
    ) -> None:
        self._raw = raw.view(np.uint16) if dtype in _INFINITY else raw
        self._dtype = dtype
        names = (tensor,) if isinstance(tensor, str) else tensor
        self._tensor = " or ".join(map(repr, names[:4]))
        self._scratch = scratch
        self._nonfinite = nonfinite
        self.energies: NDArray[np.float32] | None = None
        self._finite = (0, 0)
        self.rows, self.columns = raw.shape
        self.tile_rows = max(1, min(self.rows, TILE // max(1, self.columns)))
        if unit:
            wide = self.float32(0, self.rows)
            self._raw, self._dtype = wide / np.maximum(np.linalg.norm(wide, axis=1, keepdims=True), 1e-12), "F32"
        elif offset or scale != 1:
            self._raw = self.float32(0, self.rows) * np.float32(scale) + np.float32(offset)
            self._dtype = "F32"

    def float32(self, start: int, stop: int, width: int | None = None) -> NDArray[np.float32]:
        """Rows as float32 (stop - start, width), zeros right of the last column; the caller may overwrite them."""
        bits = self._bits(start, stop, width or self.columns)
        finite = self._finite[0] <= start <= stop <= self._finite[1] or self._is_finite(start, stop, bits)
        out = self._scratch.array("float32", bits.shape, np.float32)
        if self._dtype == "F32":
            np.copyto(out, bits)
        elif self._dtype == "F16" and not finite:
            np.copyto(out, bits.view(np.float16))
        else:
            _WIDEN[self._dtype](bits, out)
        return cast("NDArray[np.float32]", out)

    def scaled(self, start: int, stop: int, factors: NDArray[np.float32], block: int) -> NDArray[np.float32]:
        """Rows times a factor for each block of columns, (stop - start, blocks, block), zeros right of the last column.

        Each product is rounded once. The caller may overwrite them.
        """
        rows, blocks = factors.shape
        most = float(np.abs(factors).max(initial=0.0))
        if self._dtype == "F16" and most < _FUSED and self._finite[0] <= start <= stop <= self._finite[1]:
            # A power of two more or less in a factor changes no product's digits.
            bits = self._bits(start, stop, blocks * block)
            values = self._scratch.array("float32", bits.shape, np.float32)
            _shift_f16(bits, values)
            factors = factors * _REBIAS
        else:
            values = self.float32(start, stop, blocks * block)
        if block > 32:
            shaped = values.reshape(rows, blocks, block)
            np.multiply(shaped, factors[..., None], out=shaped)
        else:  # numpy takes twice as long for rows that are so short with a factor each
            np.multiply(values, np.repeat(factors.reshape(-1), block).reshape(values.shape), out=values)
        return cast("NDArray[np.float32]", values.reshape(rows, blocks, block))

    def absmax(self, start: int, stop: int, block: int) -> NDArray[np.float32]:
        """The largest magnitude in each block of columns, (stop - start, blocks)."""
        bits, blocks = self._blocks(start, stop, block)
        clear = self._scratch.array("magnitude", bits.shape, bits.dtype)
        if self._dtype == "F32":
            np.abs(bits, out=clear)
            largest = np.maximum.reduceat(clear.reshape(-1), _starts(clear.size, block))
            self._check(start, stop, bool(np.isfinite(largest).all()))
        else:
            np.bitwise_and(bits, 0x7FFF, out=clear)
            top = self._block_maxima(clear.reshape(-1), block)
            self._check(start, stop, int(top.max(initial=0)) < _INFINITY[self._dtype])
            largest = np.empty(top.shape, np.float32)
            _WIDEN[self._dtype](top, largest)
        return cast("NDArray[np.float32]", largest.reshape(stop - start, blocks))

    def extreme(self, start: int, stop: int, block: int) -> NDArray[np.float32]:
        """The value of largest magnitude, with its sign, in each block of columns, (stop - start, blocks)."""
        bits, blocks = self._blocks(start, stop, block)
        if self._dtype == "F32":
            low, high = self.extremes(start, stop, block)
            return cast("NDArray[np.float32]", np.where(high > -low, high, low))
        # Turned left by one, the sign is the lowest bit: the largest number is the largest magnitude.
        keys = self._scratch.array("magnitude", bits.shape, np.uint16)
        sign = self._scratch.array("sign", bits.shape, np.uint16)
        np.left_shift(bits, 1, out=keys)
        np.right_shift(bits, 15, out=sign)
        np.bitwise_or(keys, sign, out=keys)
        top = self._block_maxima(keys.reshape(-1), block)
        self._check(start, stop, int(top.max(initial=0)) >> 1 < _INFINITY[self._dtype])
        value = np.empty(top.shape, np.float32)
        _WIDEN[self._dtype](np.bitwise_or(top >> 1, top << 15, dtype=np.uint16), value)
        return value.reshape(stop - start, blocks)

    def _block_maxima(self, keys: NDArray[np.uint16], block: int) -> NDArray[np.uint16]:
        """The maximum of each block of uint16.

        A reduction costs some 30 ns a block however short it is. Short blocks are folded instead: everything is
        compared with what lies half a block behind, then a quarter, and so on. What crosses into the next block is
        never looked at; once 8 numbers of a block are left, 16 bytes, these are put together.
        """
        if block > 64 or block & (block - 1):
            return cast("NDArray[np.uint16]", np.maximum.reduceat(keys, _starts(keys.size, block)))
        left, buffers = keys, [self._scratch.array(name, keys.shape, np.uint16) for name in ("fold", "folded")]
        step = block // 2
        while step:
            if step == 4 and block > 8:
                left, block = left.view(np.complex128)[:: block // 8].copy().view(np.uint16), 8
            into = buffers[0][: left.size - step]
            np.maximum(left[:-step], left[step:], out=into)
            left, step = into, step // 2
            buffers.reverse()
        return left[::block].copy()

    def extremes(self, start: int, stop: int, block: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The smallest value or zero, and the largest value or zero, in each block of columns."""
        bits, blocks = self._blocks(start, stop, block)
        flat, starts, shape = bits.reshape(-1), _starts(bits.size, block), (stop - start, blocks)
        if self._dtype == "F32":
            low, high = np.minimum.reduceat(flat, starts), np.maximum.reduceat(flat, starts)
            self._check(start, stop, bool(np.isfinite(low).all() and np.isfinite(high).all()))
            np.minimum(low, 0.0, out=low)
            np.maximum(high, 0.0, out=high)
            return low.reshape(shape), high.reshape(shape)
        # As signed integers all negative values come last, as unsigned ones they come first and in order of magnitude.
        keys = self._scratch.array("magnitude", bits.shape, np.uint16)
        np.bitwise_xor(bits, 0x8000, out=keys)
        top = (self._block_maxima(keys.reshape(-1), block) ^ np.uint16(0x8000)).view(np.int16)
        np.copyto(keys, bits)
        bottom = self._block_maxima(keys.reshape(-1), block).copy()
        infinity = _INFINITY[self._dtype]
        self._check(start, stop, int(top.max(initial=0)) < infinity and int(bottom.max(initial=0)) < 0x8000 + infinity)
        np.maximum(top, 0, out=top)
        np.copyto(bottom, 0x8000, where=bottom < 0x8000)
        low, high = np.empty(shape, np.float32), np.empty(shape, np.float32)
        _WIDEN[self._dtype](bottom.reshape(shape), low)
        _WIDEN[self._dtype](top.view(np.uint16).reshape(shape), high)
        return low, high

    def float16(self, start: int, stop: int) -> NDArray[np.float16]:
        """Rows as float16: the bits themselves, or rounded from a wider type."""
        if self._dtype == "F16":
            bits = self._bits(start, stop, self.columns)
            self._is_finite(start, stop, bits)
            return bits.view(np.float16)
        wide = self.float32(start, stop)
        magnitude = np.abs(wide, out=self._scratch.array("magnitude32", wide.shape, np.float32))
        if self._nonfinite:
            np.copyto(magnitude, 0.0, where=~np.isfinite(magnitude))
        largest = float(magnitude.max(initial=0.0))
        if largest >= F16_MAX + 16.0:  # from halfway to the next step on, rounding goes to infinity
            raise ZooError(f"tensor {self._tensor} holds {largest:g}, which float16 cannot; build another precision")
        out = self._scratch.array("float16", wide.shape, np.float16)
        np.copyto(out, wide, casting="same_kind")
        return cast("NDArray[np.float16]", out)

    def bfloat16(self, start: int, stop: int) -> NDArray[np.uint16]:
        """Rows as bit patterns of bfloat16: the bits themselves, or rounded from a finer type."""
        if self._dtype == "BF16":
            bits = self._bits(start, stop, self.columns)
            self._is_finite(start, stop, bits)
            return cast("NDArray[np.uint16]", bits)
        return cast("NDArray[np.uint16]", narrowed(self.float32(start, stop), "bfloat16"))

    def _bits(self, start: int, stop: int, width: int) -> NDArray[Any]:
        """The stored rows, widened by zeros where ``width`` asks for it."""
        rows = self._raw[start:stop]
        if width == self.columns:
            return rows
        padded = self._scratch.array("padded", (stop - start, width), rows.dtype)
        padded[:, : self.columns] = rows
        padded[:, self.columns :] = 0
        return padded

    def _blocks(self, start: int, stop: int, block: int) -> tuple[NDArray[Any], int]:
        blocks = -(-self.columns // block)
        return self._bits(start, stop, blocks * block), blocks

    def _is_finite(self, start: int, stop: int, bits: NDArray[Any]) -> bool:
        """Look for NaN and infinite values, and refuse them unless they are let through."""
        if self._dtype == "F32":
            finite = bool(np.isfinite(bits).all())
        else:
            infinity = _INFINITY[self._dtype]
            finite = int(bits.view(np.int16).max(initial=0)) < infinity and int(bits.max(initial=0)) < 0x8000 + infinity
        if finite or not self._nonfinite:
            self._check(start, stop, finite)
        return finite

    def _check(self, start: int, stop: int, finite: bool) -> None:
        if not finite:
            raise ZooError(
                f"tensor {self._tensor} holds NaN or infinite values; the checkpoint is damaged "
                "(--allow-nonfinite keeps them in weights that stay floats)"
            )
        self._finite = (start, stop)


def _starts(size: int, block: int) -> NDArray[np.intp]:
    """Where each block of a flat array begins."""
    return np.arange(0, size, block)
