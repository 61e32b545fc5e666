"""Types of numbers: one table of what every reader, writer and kernel asks about them.

Sources: safetensors, ``Dtype`` in its tensor.rs (codes and sizes); PyTorch, ``torch.dtype`` and the storage classes
that its older files name; IEEE 754-2019, 3.4 (bit patterns of infinity).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class DType:
    """A type of numbers."""

    code: str
    """Safetensors' name, for example ``BF16``; checkpoints go by it."""
    bits: int
    name: str | None
    """NumPy's and PyTorch's name, for example ``bfloat16``; stored arrays go by it. None where neither has the type."""
    numpy: str
    """How NumPy spells what is read of it; ``bfloat16`` and 8-bit floats come as bit patterns. Empty: it is not."""
    storage: str | None = None
    """The storage class that PyTorch's ``.bin`` files name."""
    infinity: int | None = None
    """The bit pattern of infinity, the first that is not finite, of the 16-bit floats that weights come in."""
    readable: bool = False
    """Whether a build reads weights of this type."""

    @property
    def nbytes(self) -> int:
        """Bytes of a value; a type of less than a byte has none and raises."""
        if self.bits % 8:
            raise ValueError(f"{self.code} takes {self.bits} bits")
        return self.bits // 8


_TABLE = (
    DType("F32", 32, "float32", "<f4", "FloatStorage", readable=True),
    DType("F16", 16, "float16", "<f2", "HalfStorage", 0x7C00, readable=True),
    DType("BF16", 16, "bfloat16", "<u2", "BFloat16Storage", 0x7F80, readable=True),
    DType("F64", 64, "float64", "<f8", "DoubleStorage"),
    DType("I64", 64, "int64", "<i8", "LongStorage"),
    DType("I32", 32, "int32", "<i4", "IntStorage"),
    DType("I16", 16, "int16", "<i2", "ShortStorage"),
    DType("I8", 8, "int8", "|i1", "CharStorage"),
    DType("U8", 8, "uint8", "|u1", "ByteStorage"),
    DType("BOOL", 8, "bool", "|b1", "BoolStorage"),
    DType("C64", 64, "complex64", "<c8", "ComplexFloatStorage"),
    DType("U16", 16, "uint16", "<u2"),
    DType("U32", 32, "uint32", "<u4"),
    DType("U64", 64, "uint64", "<u8"),
    DType("F8_E4M3", 8, "float8_e4m3fn", "|u1"),
    DType("F8_E5M2", 8, "float8_e5m2", "|u1"),
    DType("F8_E8M0", 8, "float8_e8m0fnu", "|u1"),
    DType("F6_E2M3", 6, None, ""),
    DType("F6_E3M2", 6, None, ""),
    DType("F4", 4, None, ""),
)


BY_CODE = {dtype.code: dtype for dtype in _TABLE}
"""Types by safetensors' name."""
BY_NAME = {dtype.name: dtype for dtype in _TABLE if dtype.name is not None}
"""Types by NumPy's and PyTorch's name."""
BY_STORAGE = {dtype.storage: dtype for dtype in _TABLE if dtype.storage is not None}
"""Types by the class that PyTorch's ``.bin`` files name."""
READABLE = {dtype.code: dtype for dtype in _TABLE if dtype.readable}
"""Types of weights that a build reads, by safetensors' name."""


def held_as(name: str) -> str:
    """Say how NumPy holds values of a type, by its name: as themselves, or as their bit patterns.

    Raises:
        ValueError: nothing holds it.
    """
    known = BY_NAME.get(name)
    if known is None or not known.numpy:
        raise ValueError(f"no array holds {name}")
    return known.numpy
