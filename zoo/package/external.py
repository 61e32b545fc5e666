"""Where an ONNX model keeps its weights: inside the package's own data files, and nowhere else.

The graph's bytes are read here before any library does. Readers of protobuf differ in what they make of odd bytes: tags
of more than 32 bits, numbers longer than they need be, a field twice, fields that one of them does not know. So nothing
odd is let through: what is left, every reader reads alike.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from zoo.errors import ZooError
from zoo.package.onnx_schema import MESSAGES
from zoo.protobuf import BYTES, FIXED32, FIXED64, VARINT, Malformed, Raw, strict_fields

_WIRE = {"v": VARINT, "f": FIXED32, "d": FIXED64, "s": BYTES}
_EXTERNAL = 1
"""TensorProto.EXTERNAL."""
_MAX_DEPTH = 32
_MAX_NUMBER = 20
"""Digits of an offset or a length."""


@dataclass(frozen=True, slots=True)
class Extent:
    """A tensor's bytes in a file."""

    location: str
    offset: int
    length: int


def check_graph(raw: Raw, where: str, data_files: Mapping[str, int]) -> None:
    """Check that a model's bytes mean one thing, and that its tensors lie inside the data files.

    Args:
        raw: the model.
        where: for messages.
        data_files: name of each data file of the package → its size, bytes.

    Raises:
        ZooError: it is not a model, or keeps weights anywhere else.
    """
    for extent in external_extents(raw, where):
        size = data_files.get(extent.location)
        if size is None:
            raise ZooError(
                f"{where}: keeps weights in {extent.location[:200]!r}, not in a data file of the package; refused"
            )
        if extent.offset + extent.length > size:
            raise ZooError(
                f"{where}: a tensor ends at byte {extent.offset + extent.length} of {extent.location}, which has {size}"
            )


def external_extents(raw: Raw, where: str) -> list[Extent]:
    """List where a model's externally kept tensors lie.

    Raises:
        ZooError: it is not a model, or one that readers could read in two ways.
    """
    extents: list[Extent] = []
    try:
        _walk(raw, 0, len(raw), "ModelProto", 0, extents)
    except Malformed as error:
        raise ZooError(f"{where}: not an ONNX model that zoo would open: {error}") from None
    return extents


def _walk(raw: Raw, start: int, stop: int, message: str, depth: int, extents: list[Extent]) -> None:
    if depth > _MAX_DEPTH:
        raise Malformed("nested too deep")
    schema, seen = MESSAGES[message], set[int]()
    entries: list[tuple[str, str]] = []
    location = 0
    for number, wire, begin, end in strict_fields(raw, start, stop):
        field = schema.get(number)
        if field is None:
            raise Malformed(f"{message} has a field {number}")
        if not field.repeated:
            if number in seen:
                raise Malformed(f"{message} has its field {number} twice")
            seen.add(number)
        packed = field.repeated and field.kind in ("v", "f", "d") and wire == BYTES
        if wire != _WIRE.get(field.kind, BYTES) and not packed:
            raise Malformed(f"{message} has a field {number} of wire type {wire}")
        if message == "TensorProto" and number == 13:
            entries.append(_entry(raw, begin, end))
        elif message == "TensorProto" and number == 14:
            location = raw[begin] if end == begin + 1 else -1
        elif field.kind in MESSAGES:
            _walk(raw, begin, end, field.kind, depth + 1, extents)
    if message == "TensorProto" and (location or entries):
        extents.append(_extent(location, entries))


def _entry(raw: Raw, start: int, stop: int) -> tuple[str, str]:
    """Read a key and its value."""
    said: dict[int, str] = {}
    for number, wire, begin, end in strict_fields(raw, start, stop):
        if number in said or number not in (1, 2) or wire != BYTES:
            raise Malformed("an entry of external data is not a key and a value")
        said[number] = bytes(raw[begin:end]).decode("utf-8", "replace")
    return said.get(1, ""), said.get(2, "")


def _extent(location: int, entries: list[tuple[str, str]]) -> Extent:
    said = dict(entries)
    if location != _EXTERNAL or len(said) != len(entries) or not set(said) <= {"location", "offset", "length"}:
        raise Malformed(f"external data with the entries {[key[:40] for key, _ in entries][:8]}")
    numbers = {}
    for key in ("offset", "length"):
        text = said.get(key, "")
        # A length left open would reach to the file's end, wherever that is when the file is opened.
        if not text.isascii() or not text.isdecimal() or len(text) > _MAX_NUMBER:
            raise Malformed(f"external data with the {key} {text[:40]!r}")
        numbers[key] = int(text)
    return Extent(said.get("location", ""), numbers["offset"], numbers["length"])
