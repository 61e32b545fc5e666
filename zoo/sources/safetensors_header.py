"""The JSON of a safetensors header, read an entry at a time.

A general JSON reader makes objects of whatever stands there: 39 MB of ``{}`` become a gigabyte. Here only an entry of a
tensor becomes objects, one after the other, so that memory stays in proportion to the header.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from typing import Any

from zoo.errors import ZooError
from zoo.sources.jsonfile import parse_object

_SPACE = re.compile(rb"[ \t\n\r]*+")
_TEXT = rb'"[^"\\\x00-\x1f]*+(?:\\.[^"\\\x00-\x1f]*+)*+"'
_KEY = re.compile(rb"[ \t\n\r]*+(" + _TEXT + rb")[ \t\n\r]*+:[ \t\n\r]*+", re.DOTALL)
_FLAT = re.compile(rb'\{[^{}"]*+(?:' + _TEXT + rb'[^{}"]*+)*+\}', re.DOTALL)
"""An object without objects in it."""
_USUAL = re.compile(
    rb'\{[ \t\n\r]*+"dtype"[ \t\n\r]*+:[ \t\n\r]*+"([A-Z0-9_]{1,16})"[ \t\n\r]*+,'
    rb'[ \t\n\r]*+"shape"[ \t\n\r]*+:[ \t\n\r]*+(\[[0-9, ]{0,400}\])[ \t\n\r]*+,'
    rb'[ \t\n\r]*+"data_offsets"[ \t\n\r]*+:[ \t\n\r]*+(\[[0-9, ]{3,60}\])[ \t\n\r]*+\}'
)
"""An entry as everyone writes it."""
MAX_NAME = 1000
"""Characters of a tensor's name."""
MAX_ENTRY = 8192
"""Bytes of an entry that is written otherwise."""
MAX_METADATA = 2**20
"""Bytes of ``__metadata__`` that are read as JSON; more are only looked over."""
METADATA = "__metadata__"


def entries(raw: bytes, where: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Read a header's entries in their order.

    Args:
        raw: the header, from its ``{`` to its end.
        where: for messages.

    Yields:
        Names, each with the object that stands for it; ``__metadata__`` is checked and left out.

    Raises:
        ZooError: it is not the JSON of a header.
    """
    try:
        raw.decode("ascii") if raw.isascii() else _check_utf8(raw)
    except UnicodeDecodeError as error:
        raise ZooError(f"{where}: not UTF-8 at byte {error.start}") from None
    at = _skip(raw, 1)
    if raw[at : at + 1] == b"}":
        return _end(raw, at + 1, where)
    seen_metadata = False
    while True:
        key = _KEY.match(raw, at)
        if key is None:
            raise ZooError(f"{where}: not JSON: no name in quotes and colon at byte {at}")
        name = _text(key[1], where)
        if len(name) > MAX_NAME:
            raise ZooError(f"{where}: a name of {len(name)} characters, {name[:60]!r} …, which no tensor has")
        if name == METADATA:
            if seen_metadata:
                raise ZooError(f"{where}: the name {METADATA!r} appears twice")
            seen_metadata = True
            at = _metadata(raw, key.end(), where)
        else:
            value, at = _entry(raw, key.end(), name, where)
            yield name, value
        at = _skip(raw, at)
        mark = raw[at : at + 1]
        if mark == b"}":
            return _end(raw, at + 1, where)
        if mark != b",":
            raise ZooError(f"{where}: not JSON: no comma after {name[:80]!r} at byte {at}")
        at += 1


def _check_utf8(raw: bytes) -> None:
    """Decode piece by piece, so that no second copy of the whole is made."""
    decoder, piece = codecs.getincrementaldecoder("utf-8")(), 2**20
    for start in range(0, len(raw), piece):
        try:
            decoder.decode(raw[start : start + piece], final=start + piece >= len(raw))
        except UnicodeDecodeError as error:
            raise UnicodeDecodeError("utf-8", b"", start + error.start, start + error.end, error.reason) from None


def _entry(raw: bytes, at: int, name: str, where: str) -> tuple[dict[str, Any], int]:
    usual = _USUAL.match(raw, at)
    if usual is not None:
        try:
            return {
                "dtype": usual[1].decode(),
                "shape": json.loads(usual[2]),
                "data_offsets": json.loads(usual[3]),
            }, usual.end()
        except ValueError as error:
            raise ZooError(f"{where}: tensor {name[:200]!r}: not JSON: {error}") from None
    flat = _FLAT.match(raw, at, at + MAX_ENTRY)
    if flat is None:
        if raw[at : at + 1] == b"{" and _FLAT.match(raw, at) is None and b"}" not in raw[at : at + MAX_ENTRY]:
            raise ZooError(f"{where}: not JSON: the entry of {name[:80]!r} does not end")
        raise ZooError(f"{where}: tensor {name[:200]!r}: its header entry must be dtype, shape and data_offsets")
    return parse_object(flat[0], f"{where}: tensor {name[:200]!r}"), flat.end()


def _metadata(raw: bytes, at: int, where: str) -> int:
    """Check that ``__metadata__`` maps text to text; return where it ends."""
    flat = _FLAT.match(raw, at)
    if flat is None:
        raise ZooError(f"{where}: {METADATA} must map text to text")
    if flat.end() - at <= MAX_METADATA:
        metadata = parse_object(flat[0], f"{where}: {METADATA}")
        if not all(isinstance(value, str) for value in metadata.values()):
            raise ZooError(f"{where}: {METADATA} must map text to text")
        return flat.end()
    end, inside = flat.end() - 1, _skip(raw, at + 1)
    while inside < end:
        key = _KEY.match(raw, inside, end)
        value = re.compile(_TEXT, re.DOTALL).match(raw, key.end(), end) if key else None
        if value is None:
            raise ZooError(f"{where}: {METADATA} must map text to text")
        inside = _skip(raw, value.end())
        if inside < end:
            if raw[inside : inside + 1] != b",":
                raise ZooError(f"{where}: {METADATA} must map text to text")
            inside = _skip(raw, inside + 1)
    return flat.end()


def _text(quoted: bytes, where: str) -> str:
    """Read a name in quotes."""
    if b"\\" not in quoted:
        return quoted[1:-1].decode()
    try:
        name = str(json.loads(quoted))
        name.encode()
    except UnicodeEncodeError:
        raise ZooError(
            f"{where}: holds an escaped half of a character (\\ud800 to \\udfff), which is not text"
        ) from None
    except ValueError as error:
        raise ZooError(f"{where}: not JSON: {str(error)[:200]}") from None
    return name


def _skip(raw: bytes, at: int) -> int:
    spaces = _SPACE.match(raw, at)
    return spaces.end() if spaces else at


def _end(raw: bytes, at: int, where: str) -> None:
    if _skip(raw, at) != len(raw):
        raise ZooError(f"{where}: not JSON: more after the header's end at byte {at}")
