"""The header of a GGUF file, read within bounds: metadata, and what tensors lie where.

Format: ggml's ``docs/gguf.md``, versions 2 and 3, little-endian. Whatever a file states is held against its own size
before memory is taken for it.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from typing import Any

from zoo import ByteReader, ZooError

MAX_HEADER = 64 * 2**20
"""Bytes; a vocabulary of 262,144 tokens takes about 10 MiB."""
MAX_ITEMS = 4 * 2**20
"""Items of all arrays together."""
MAX_DIMENSIONS = 4
MAX_NAME = 256
_PIECE = 2**20
_ARRAY, _STRING, _BOOL = 9, 8, 7
_NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", _BOOL: "?", 10: "Q", 11: "q", 12: "d"}
"""``gguf_metadata_value_type`` → how ``struct`` spells it."""


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """A tensor as the file stores it."""

    name: str
    kind: str
    """Name of its type, for example ``Q4_K``."""
    shape: tuple[int, ...]
    """As NumPy has it: rows first, the reverse of the file's order."""
    offset: int
    """Where it begins, from the start of the file."""
    row_bytes: int
    """Bytes of a row along the last axis."""

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape[:-1]) * self.row_bytes


@dataclass(frozen=True, slots=True)
class GgufHeader:
    """What the header of one file says."""

    metadata: dict[str, Any]
    tensors: dict[str, StoredTensor]
    raw: bytes
    """All bytes before the tensors, for the digest."""
    file_size: int


def read_header(reader: ByteReader, label: str) -> GgufHeader:
    """Read and check the header of a file.

    Args:
        reader: the file, here or over the network.
        label: its name in messages.

    Raises:
        ZooError: whatever is wrong with it.
    """
    return _HeaderReader(reader, label).read()


def type_sizes() -> dict[int, tuple[str, int, int]]:
    """Give every type of tensors by its number: name, values in a block, bytes of a block."""
    try:
        from gguf.constants import GGML_QUANT_SIZES
    except ImportError:
        raise ZooError(
            "reading GGUF files needs the package gguf; install it with: pip install 'model-zoo-framework[gguf]'"
        ) from None
    return {int(kind): (kind.name, *sizes) for kind, sizes in GGML_QUANT_SIZES.items()}


class _HeaderReader:
    def __init__(self, reader: ByteReader, label: str) -> None:
        self._reader, self._label = reader, label
        self._raw = bytearray()
        self._at = self._items = 0

    def read(self) -> GgufHeader:
        if self._take(4) != b"GGUF":
            raise self._error("not a GGUF file: it does not begin with GGUF")
        version = self._number("I")
        if version not in (2, 3):
            swapped = " (big-endian files are not read)" if version & 0xFFFF == 0 and version else ""
            raise self._error(f"GGUF version {version} is not read{swapped}; known: 2, 3")
        tensors, pairs = self._number("Q"), self._number("Q")
        self._fits(tensors, 32, "tensors")
        self._fits(pairs, 13, "metadata entries")
        metadata: dict[str, Any] = {}
        for _ in range(pairs):
            key = self._string("a key of its metadata")
            if key in metadata:
                raise self._error(f"metadata {key!r:.80} stands there twice")
            metadata[key] = self._value(self._number("I"), f"metadata {key!r:.80}")
        listed = self._tensors(tensors, self._alignment(metadata))
        return GgufHeader(metadata, listed, bytes(self._raw[: self._at]), self._reader.size)

    def _alignment(self, metadata: dict[str, Any]) -> int:
        alignment = metadata.get("general.alignment", 32)
        if type(alignment) is not int or not 0 < alignment <= 2**16 or alignment & (alignment - 1):
            raise self._error(f"general.alignment must be a power of two up to 65536, not {alignment!r:.40}")
        return alignment

    def _tensors(self, count: int, alignment: int) -> dict[str, StoredTensor]:
        sizes = type_sizes() if count else {}
        entries = [self._entry(sizes) for _ in range(count)]
        start = -(-self._at // alignment) * alignment
        tensors: dict[str, StoredTensor] = {}
        end = start
        for name, kind, shape, row_bytes, offset in sorted(entries, key=lambda entry: entry[-1]):
            tensor = StoredTensor(name, kind, shape, start + offset, row_bytes)
            if name in tensors:
                raise self._error(f"tensor {name!r} is listed twice")
            if offset % alignment:
                raise self._error(f"tensor {name!r} begins at {offset}, which is not aligned to {alignment}")
            if tensor.offset < end:
                raise self._error(f"tensor {name!r} overlaps the one before it")
            end = tensor.offset + tensor.nbytes
            if end > self._reader.size:
                raise self._error(
                    f"tensor {name!r} ends at byte {end} of a file of {self._reader.size}; truncated, fetch it again"
                )
            tensors[name] = tensor
        return tensors

    def _entry(self, sizes: dict[int, tuple[str, int, int]]) -> tuple[str, str, tuple[int, ...], int, int]:
        name = self._string("a tensor's name")
        if not name or len(name) > MAX_NAME:
            raise self._error(f"a tensor's name has {len(name)} characters, not 1 to {MAX_NAME}")
        dimensions = self._number("I")
        if not 0 < dimensions <= MAX_DIMENSIONS:
            raise self._error(f"tensor {name!r} has {dimensions} dimensions, not 1 to {MAX_DIMENSIONS}")
        shape = struct.unpack(f"<{dimensions}Q", self._take(8 * dimensions))[::-1]
        number, offset = self._number("I"), self._number("Q")
        if number not in sizes:
            raise self._error(f"tensor {name!r} is of type {number}, which is not known")
        kind, values, nbytes = sizes[number]
        if not all(0 < size < 2**40 for size in shape) or math.prod(shape) >= 2**48 or offset >= 2**60:
            raise self._error(f"tensor {name!r} of shape {list(shape)} at {offset} is not a tensor of this file")
        if shape[-1] % values:
            raise self._error(f"tensor {name!r} has rows of {shape[-1]} values, not whole blocks of {values} ({kind})")
        return name, kind, shape, shape[-1] // values * nbytes, offset

    def _value(self, kind: int, where: str) -> Any:
        if kind == _STRING:
            return self._string(where)
        if kind != _ARRAY:
            return self._numbers(kind, 1, where)[0]
        inner, count = self._number("I"), self._number("Q")
        if inner == _ARRAY:
            raise self._error(f"{where} holds arrays in an array, which are not read")
        self._items += count
        if self._items > MAX_ITEMS:
            raise self._error(f"{where} lists {count} items; its arrays hold more than {MAX_ITEMS} together")
        if inner == _STRING:
            self._fits(count, 8, f"strings in {where}")
            return [self._string(where) for _ in range(count)]
        return self._numbers(inner, count, where)

    def _numbers(self, kind: int, count: int, where: str) -> list[Any]:
        code = _NUMBERS.get(kind)
        if code is None:
            raise self._error(f"{where} is of type {kind}, which is not known")
        size = struct.calcsize(code)
        self._fits(count, size, f"numbers in {where}")
        return list(struct.unpack(f"<{count}{code}", self._take(count * size)))

    def _string(self, where: str) -> str:
        length = self._number("Q")
        self._fits(length, 1, f"bytes in {where}")
        try:
            return self._take(length).decode()
        except UnicodeDecodeError:
            raise self._error(f"{where} is not UTF-8") from None

    def _number(self, code: str) -> int:
        return int(struct.unpack(f"<{code}", self._take(struct.calcsize(code)))[0])

    def _fits(self, count: int, size: int, what: str) -> None:
        """Refuse more than what is left of the file, or of what a header may take."""
        left = min(self._reader.size, MAX_HEADER) - self._at
        if count * size > left:
            more = "truncated, fetch it again" if count * size < MAX_HEADER else "not a header that is read"
            raise self._error(f"states {count} {what}, more than its {left} bytes hold; {more}")

    def _take(self, size: int) -> bytes:
        end = self._at + size
        if end > len(self._raw):
            if end <= min(self._reader.size, MAX_HEADER):
                self._raw += self._reader.read_at(len(self._raw), max(end - len(self._raw), _PIECE))
            if end > len(self._raw):
                raise self._error(f"its header ends at byte {len(self._raw)}; truncated, fetch it again")
        piece = bytes(self._raw[self._at : end])
        self._at = end
        return piece

    def _error(self, what: str) -> ZooError:
        return ZooError(f"{self._label}: {what}")
