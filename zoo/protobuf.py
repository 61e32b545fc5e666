"""Protobuf's wire format, as far as looking for a few fields takes.

Source: https://protobuf.dev/programming-guides/encoding/.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterator

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
Raw = bytes | mmap.mmap


class Malformed(ValueError):
    """Bytes that are not a protobuf message."""


def fields(raw: Raw, start: int, stop: int) -> Iterator[tuple[int, int, int, int]]:
    """Go through a message: (field number, wire type, start of the value, its end)."""
    return _fields(raw, start, stop, varint)


def strict_fields(raw: Raw, start: int, stop: int) -> Iterator[tuple[int, int, int, int]]:
    """Go through a message as ``fields`` does, where every tag and length is written in the one shortest way.

    Readers differ in what they make of other ways: some drop the bits of a tag above the 32nd.
    """
    for field in _fields(raw, start, stop, _shortest):
        if field[0] == 0:
            raise Malformed(f"a field without a number before byte {field[2]}")
        yield field


def _fields(
    raw: Raw, start: int, stop: int, read_length: Callable[[Raw, int, int], tuple[int, int]]
) -> Iterator[tuple[int, int, int, int]]:
    """Go through a message whose tags and lengths are read by ``read_length``."""
    at = start
    while at < stop:
        tag, at = read_length(raw, at, stop)
        kind = tag & 7
        begin = at
        if kind == VARINT:
            _, at = varint(raw, at, stop)
        elif kind == FIXED64:
            at += 8
        elif kind == FIXED32:
            at += 4
        elif kind == BYTES:
            length, begin = read_length(raw, at, stop)
            at = begin + length
        else:
            raise Malformed(f"wire type {kind} at byte {at}")
        if at > stop:
            raise Malformed(f"a field at byte {begin} runs over its end")
        yield tag >> 3, kind, begin, at


def _shortest(raw: Raw, at: int, stop: int) -> tuple[int, int]:
    """Read a number of at most 32 bits that has no more bytes than it needs."""
    if at < stop and raw[at] < 0x80:
        return raw[at], at + 1
    value, after = varint(raw, at, stop)
    if value >= 2**32 or value < 1 << 7 * (after - at - 1):
        raise Malformed(f"a number at byte {at} is written longer than it need be")
    return value, after


def varint(raw: Raw, at: int, stop: int) -> tuple[int, int]:
    """Read a number; return it and where the next value begins."""
    value = shift = 0
    while at < stop and shift < 70:
        byte = raw[at]
        value |= (byte & 0x7F) << shift
        at += 1
        if byte < 0x80:
            return value, at
        shift += 7
    raise Malformed(f"a number at byte {at} does not end")
