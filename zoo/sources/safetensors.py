"""The safetensors format, read as specified: header length, JSON header, then the tensors end to end.

Source: https://github.com/huggingface/safetensors, "Format": 8 bytes of unsigned little-endian header length N, N bytes
of JSON that begin with ``{`` (trailing spaces allowed), then the byte buffer; the tensors cover it without holes.
"""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass, field
from typing import Any

from zoo.contracts import TensorInfo
from zoo.declarations.dtypes import BY_CODE
from zoo.errors import ZooError
from zoo.sources.bytereader import ByteReader
from zoo.sources.pointers import refuse_pointer
from zoo.sources.safetensors_header import entries

MAX_HEADER = 100_000_000


@dataclass(frozen=True, slots=True)
class Header:
    """What the header of one file says."""

    tensors: dict[str, TensorInfo]
    offsets: dict[str, int]
    """Where each tensor begins, from the start of the file."""
    raw: bytes
    """The JSON itself, for the digest."""
    file_size: int
    strides: dict[str, tuple[int, ...]] = field(default_factory=dict)
    """Strides, counted in elements, of the tensors that do not lie row by row; safetensors holds none."""


def read_header(reader: ByteReader, label: str) -> Header:
    """Read and check the header of a safetensors file.

    Args:
        reader: the file, here or over the network.
        label: its name in messages.

    Raises:
        ZooError: whatever is wrong with it, with the names of file and tensor.
    """
    size = reader.size
    refuse_pointer(reader.read_at(0, 64), label)
    prefix = reader.read_at(0, 8)
    if len(prefix) < 8:
        raise ZooError(f"{label}: {size} bytes are not a safetensors file; fetch it again")
    length = int.from_bytes(prefix, "little")
    if length > MAX_HEADER:
        raise ZooError(f"{label}: header of {length} bytes, more than the format allows; not a safetensors file")
    if 8 + length > size:
        raise ZooError(f"{label}: header of {length} bytes in a file of {size}; truncated, fetch it again")
    raw = reader.read_at(8, length)
    if len(raw) < length:
        raise ZooError(f"{label}: header ends after {len(raw)} of {length} bytes; truncated, fetch it again")
    if raw[:1] != b"{":
        raise ZooError(f"{label}: the header does not begin with '{{'; not a safetensors file")
    begin, body = 8 + length, size - 8 - length
    tensors: dict[str, TensorInfo] = {}
    offsets: dict[str, int] = {}
    for name, entry in entries(raw, f"{label}: header"):
        if name in tensors:
            raise ZooError(f"{label}: header: the name {name[:80]!r} appears twice")
        tensors[name], start = _tensor(name, entry, label, body)
        offsets[name] = begin + start
    at, before = 0, "the header"
    for name in sorted(offsets, key=lambda name: (offsets[name], tensors[name].nbytes, name)):
        start = offsets[name] - begin
        if start != at:
            problem = "overlap" if start < at else f"leave {start - at} bytes between them"
            raise ZooError(f"{label}: {before} and tensor {name[:200]!r} {problem}; the file is damaged")
        at, before = start + tensors[name].nbytes, f"tensor {name[:200]!r}"
    if at != body:
        raise ZooError(f"{label}: {body - at} bytes after the last tensor belong to none; the file is damaged")
    return Header(tensors, offsets, raw, size)


def _tensor(name: str, entry: Any, label: str, body: int) -> tuple[TensorInfo, int]:
    """Check one entry; return it and where it begins in the byte buffer."""
    where = f"{label}: tensor {name[:200]!r}"
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        raise ZooError(f"{where}: its header entry must be dtype, shape and data_offsets")
    dtype, shape, span = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or len(dtype) > 40:
        raise ZooError(f"{where}: dtype is not the name of a type")
    if not isinstance(shape, list) or len(shape) > 64 or not all(_count(size) for size in shape):
        raise ZooError(f"{where}: shape must be a list of sizes")
    if not isinstance(span, list) or len(span) != 2 or not all(_count(bound) for bound in span):
        raise ZooError(f"{where}: data_offsets must be two positions")
    start, stop = span
    if start > stop:
        raise ZooError(f"{where}: data_offsets {start} to {stop} run backwards")
    if stop > body:
        raise ZooError(f"{where}: ends at byte {stop} of {body}; the file is truncated, fetch it again")
    known = BY_CODE.get(dtype)
    if known is not None and math.prod(shape) * known.bits != (stop - start) * 8:
        raise ZooError(f"{where}: {dtype} {shape} does not take {stop - start} bytes")
    return TensorInfo(name=name, dtype=sys.intern(dtype), shape=tuple(shape), nbytes=stop - start, file=label), start


def _count(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**63
