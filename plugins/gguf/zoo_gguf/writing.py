"""The bytes of a GGUF file before its weights: key-value pairs, and where each tensor lies.

Source: ggml's ``docs/gguf.md``, version 3, little endian.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

ALIGNMENT = 32
KINDS = {"F32": 0, "F16": 1, "Q4_0": 2, "Q4_1": 3, "Q8_0": 8, "BF16": 30}
"""ggml's numbers of the types that are written."""
_UINT32, _INT32, _FLOAT32, _BOOL, _STRING, _ARRAY = 4, 5, 6, 7, 8, 9


@dataclass(frozen=True, slots=True)
class WrittenTensor:
    """A tensor as the header states it."""

    name: str
    kind: str
    shape: tuple[int, ...]
    """As NumPy has it; the file has it the other way round."""
    offset: int
    """Counted from the end of the header."""


def header(metadata: Mapping[str, Any], tensors: Sequence[WrittenTensor]) -> bytes:
    """Write everything up to the first weight, padded to the alignment.

    Args:
        metadata: a value is a string, a bool, a count, a float, or a list of strings, ints or floats.
    """
    parts = [b"GGUF", struct.pack("<IQQ", 3, len(tensors), len(metadata))]
    for key, value in metadata.items():
        parts += [_string(key), _value(value)]
    for tensor in tensors:
        shape = tensor.shape[::-1]
        parts.append(_string(tensor.name))
        parts.append(struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, KINDS[tensor.kind], tensor.offset))
    raw = b"".join(parts)
    return raw + bytes(-len(raw) % ALIGNMENT)


def _string(text: str) -> bytes:
    raw = text.encode("utf-8", "surrogatepass")
    return struct.pack("<Q", len(raw)) + raw


def _value(value: Any) -> bytes:
    if not isinstance(value, list):
        return _plain(value)
    head = struct.pack("<I", _ARRAY)
    if value and isinstance(value[0], int):
        return head + struct.pack(f"<IQ{len(value)}i", _INT32, len(value), *value)
    if value and isinstance(value[0], float):
        return head + struct.pack(f"<IQ{len(value)}f", _FLOAT32, len(value), *value)
    return head + struct.pack("<IQ", _STRING, len(value)) + b"".join(map(_string, value))


def _plain(value: Any) -> bytes:
    if isinstance(value, bool):
        return struct.pack("<I?", _BOOL, value)
    if isinstance(value, int):
        return struct.pack("<II", _UINT32, value)
    if isinstance(value, float):
        return struct.pack("<If", _FLOAT32, value)
    return struct.pack("<I", _STRING) + _string(value)
