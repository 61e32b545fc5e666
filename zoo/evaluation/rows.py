"""Rows of a task from files as they are: JSON lines, a JSON list, CSV, or a whole text; each knows where it stood."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from zoo.errors import ZooError


@dataclass(frozen=True, slots=True)
class TaskRow:
    """One row."""

    values: dict[str, Any]
    where: str
    """``file:line``."""


def read_rows(path: str, raw: bytes, columns: Sequence[str] = ()) -> list[TaskRow]:
    """Read a file's rows by the end of its name.

    Args:
        path: its name in messages; ``.jsonl``, ``.json``, ``.csv`` or ``.tsv``; any other is one text, a row ``text``.
        columns: titles of a CSV that has none.

    Raises:
        ZooError: it is not what its name says; the message names the line.
    """
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ZooError(f"{path}: not UTF-8 at byte {error.start}") from None
    kind = PurePosixPath(path).suffix
    if kind == ".jsonl":
        return [
            TaskRow(_object(line, f"{path}:{number}"), f"{path}:{number}")
            for number, line in enumerate(text.split("\n"), 1)
            if line.strip()
        ]
    if kind == ".json":
        return _json(path, text)
    if kind in (".csv", ".tsv"):
        return _csv(path, text, columns, "\t" if kind == ".tsv" else ",")
    return [TaskRow({"text": text}, path)]


def read_lines(path: str, raw: bytes) -> list[str]:
    """Read a file of one value a line, as labels are kept."""
    try:
        return [line.strip() for line in raw.decode("utf-8-sig").splitlines() if line.strip()]
    except UnicodeDecodeError as error:
        raise ZooError(f"{path}: not UTF-8 at byte {error.start}") from None


def _object(text: str, where: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        raise ZooError(f"{where}: not JSON") from None
    if not isinstance(value, dict):
        raise ZooError(f"{where}: a row is a JSON object, not {type(value).__name__}")
    return value


def _json(path: str, text: str) -> list[TaskRow]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        # Files of JSON lines are called .json too.
        return [
            TaskRow(_object(line, f"{path}:{number}"), f"{path}:{number}")
            for number, line in enumerate(text.split("\n"), 1)
            if line.strip()
        ]
    if isinstance(value, dict):
        value = [value]
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise ZooError(f"{path}: rows are a JSON list of objects")
    return [TaskRow(one, f"{path}: row {number}") for number, one in enumerate(value, 1)]


def _csv(path: str, text: str, columns: Sequence[str], delimiter: str) -> list[TaskRow]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    rows: list[TaskRow] = []
    titles = list(columns)
    try:
        while True:
            number = reader.line_num + 1
            cells = next(reader, None)
            if cells is None:
                return rows
            if not any(cell.strip() for cell in cells):
                continue
            if not titles:
                titles = [cell.strip() for cell in cells]
                continue
            if len(cells) != len(titles):
                raise ZooError(f"{path}:{number}: {len(cells)} columns instead of {len(titles)}")
            rows.append(TaskRow(dict(zip(titles, cells, strict=True)), f"{path}:{number}"))
    except csv.Error as error:
        raise ZooError(f"{path}:{reader.line_num}: not CSV: {error}") from None
