"""Streams → rows: JSON lines, JSON lists read an element at a time, CSV, and plain text; each row with its line."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Any

from zoo.datasets.streams import TextStream, damage
from zoo.errors import ZooError

MAX_ROW = 16 * 2**20
"""Bytes of a row; a longer one is not read."""
MAX_BLANK = 100_000
"""Empty lines in a row."""
_PIECE = 2**18


@dataclass(frozen=True, slots=True)
class DatasetRow:
    """A row and where it stands."""

    value: Any
    """A JSON value, the fields of a CSV row (by name, or a list without a header), or a piece of plain text."""
    file: str
    line: int

    def wrong(self, what: str) -> ZooError:
        """The error of a malformed row."""
        return ZooError(f"{self.file}, line {self.line}: {what}")


def rows(stream: TextStream, *, header: bool = True) -> Iterator[DatasetRow]:
    """Read the rows of a stream by what its name ends in.

    Args:
        header: the first row of a CSV names its columns.

    Raises:
        ZooError: a malformed row, named by file and line; or a damaged file.
    """
    with damage(stream.name):
        if stream.kind == ".csv":
            yield from _csv(stream, header)
        elif stream.kind in (".json", ".jsonl", ".ndjson"):
            yield from _json(stream)
        else:
            yield from _text(stream)


def _lines(stream: TextStream) -> Iterator[tuple[int, str]]:
    """Numbered lines of UTF-8 text, each with its end."""
    number = 0
    while raw := stream.file.readline(MAX_ROW + 1):
        number += 1
        if len(raw) > MAX_ROW:
            raise ZooError(f"{stream.name}, line {number}: is longer than {MAX_ROW:,} bytes")
        try:
            text = raw.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError:
            raise ZooError(f"{stream.name}, line {number}: is not UTF-8") from None
        if "\0" in text:
            raise ZooError(f"{stream.name}, line {number}: holds zero bytes; it is not text")
        yield number, text


def _text(stream: TextStream) -> Iterator[DatasetRow]:
    """Pieces of plain text that end with a line."""
    piece: list[str] = []
    size, first = 0, 1
    for number, line in _lines(stream):
        if not piece:
            first = number
        piece.append(line)
        size += len(line)
        if size >= _PIECE // 16:
            yield DatasetRow("".join(piece), stream.name, first)
            piece, size = [], 0
    if piece:
        yield DatasetRow("".join(piece), stream.name, first)


def _json(stream: TextStream) -> Iterator[DatasetRow]:
    """The elements of a list, or values one after the other (JSON lines)."""
    head = _first(stream.file)
    if head == b"[" and stream.kind == ".json":
        yield from _list(stream)
        return
    if stream.kind == ".json":
        # One object over several lines, or JSON lines under this name: value by value they read the same.
        yield from _values(stream, _Text(stream), listed=False)
        return
    blank = 0
    for number, line in _lines(stream):
        if line.strip():
            blank = 0
            yield DatasetRow(_parse(line, stream.name, number), stream.name, number)
            continue
        blank += 1
        if blank > MAX_BLANK:
            raise ZooError(f"{stream.name}, line {number}: {MAX_BLANK:,} empty lines before it; not a dataset")


def _parse(text: str, name: str, line: int) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        what = error.msg if isinstance(error, json.JSONDecodeError) else "nested too deeply"
        raise ZooError(f"{name}, line {line}: is not JSON ({what})") from None


def _first(file: IO[bytes]) -> bytes:
    """Look at the first byte that is not white space or byte order mark, without moving on."""
    peeked: bytes = file.peek(4096)  # type: ignore[attr-defined]
    return peeked.removeprefix(b"\xef\xbb\xbf").lstrip()[:1]


class _Text:
    """Text that is read as far as needed, and the line of its beginning."""

    def __init__(self, stream: TextStream) -> None:
        self._file = io.TextIOWrapper(stream.file, "utf-8-sig", newline="")
        self._name = stream.name
        self.text = ""
        self.at = 0
        self.line = 1
        self.ended = False

    def more(self) -> None:
        """Read on; what was used up is dropped."""
        try:
            piece = self._file.read(_PIECE)
        except UnicodeDecodeError:
            raise ZooError(f"{self._name}, after line {self.line}: is not UTF-8") from None
        self.ended = not piece
        self.text, self.at = self.text[self.at :] + piece, 0

    def skip(self, also: str = "") -> str:
        """Move to the next character that is not white space; return it, or nothing at the end."""
        while True:
            while self.at < len(self.text):
                char = self.text[self.at]
                if not (char.isspace() or char in also):
                    return char
                self.line += char == "\n"
                self.at += 1
            if self.ended:
                return ""
            self.more()

    def detach(self) -> None:
        """Leave the stream to whoever opened it."""
        self._file.detach()


def _list(stream: TextStream) -> Iterator[DatasetRow]:
    text = _Text(stream)
    text.skip()
    text.at += 1
    yield from _values(stream, text, listed=True)


def _values(stream: TextStream, text: _Text, *, listed: bool) -> Iterator[DatasetRow]:
    """Decode value after value from text that is read piece by piece."""
    decoder = json.JSONDecoder()
    first = True
    try:
        while True:
            char = text.skip()
            if listed and char == ",":
                if first:
                    raise ZooError(f"{stream.name}, line {text.line}: is not JSON (a comma before any value)")
                text.at += 1
                char = text.skip()
            elif listed and char not in ("]", "") and not first:
                raise ZooError(f"{stream.name}, line {text.line}: is not JSON (a comma is missing)")
            if listed and char == "]":
                text.at += 1
                if text.skip():
                    raise ZooError(f"{stream.name}, line {text.line}: more text after the list")
                return
            if not char:
                if listed:
                    raise ZooError(f"{stream.name}, line {text.line}: is truncated; the list does not end")
                return
            value, end = _decode(decoder, stream, text)
            yield DatasetRow(value, stream.name, text.line)
            text.line += text.text.count("\n", text.at, end)
            text.at, first = end, False
    finally:
        text.detach()


def _decode(decoder: json.JSONDecoder, stream: TextStream, text: _Text) -> tuple[Any, int]:
    while True:
        try:
            value, end = decoder.raw_decode(text.text, text.at)
            # A number may go on in the next piece; anything else is complete when it decodes.
            if end < len(text.text) or text.ended or isinstance(value, dict | list | str):
                return value, end
        except RecursionError:
            raise ZooError(f"{stream.name}, line {text.line}: is nested too deeply") from None
        except json.JSONDecodeError as error:
            # A mistake well before the end of what was read is one; near it, the rest of the value may be missing.
            if text.ended or (error.pos < len(text.text) - 16 and not error.msg.startswith("Unterminated")):
                line = text.line + text.text.count("\n", text.at, error.pos)
                truncated = text.ended and error.pos >= len(text.text) - 1
                what = "is truncated" if truncated else f"is not JSON ({error.msg})"
                raise ZooError(f"{stream.name}, line {line}: {what}") from None
        if len(text.text) - text.at > MAX_ROW:
            raise ZooError(f"{stream.name}, line {text.line}: a value is longer than {MAX_ROW:,} characters")
        text.more()


def _csv(stream: TextStream, header: bool) -> Iterator[DatasetRow]:
    """Rows of a CSV: by the names of the first row, or as lists."""
    reader = csv.reader((line for _, line in _lines(stream)), strict=True)
    names: list[str] | None = None
    try:
        for fields in reader:
            if not fields:
                continue
            if header and names is None:
                names = [field.strip() for field in fields]
                continue
            if names is None:
                yield DatasetRow(fields, stream.name, reader.line_num)
                continue
            if len(fields) != len(names):
                raise ZooError(
                    f"{stream.name}, line {reader.line_num}: has {len(fields)} fields, the header names {len(names)}"
                )
            yield DatasetRow(dict(zip(names, fields, strict=True)), stream.name, reader.line_num)
    except csv.Error as error:
        raise ZooError(f"{stream.name}, line {reader.line_num}: is not CSV ({error})") from None
