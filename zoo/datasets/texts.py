"""Rows → texts, by the format that a dataset declares; a file given by its path says its format by its rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from zoo.datasets.rows import DatasetRow, rows
from zoo.datasets.streams import TextStream, open_streams
from zoo.errors import ZooError, unknown

Reader = Callable[[DatasetRow], str]


def read_texts(paths: Sequence[Path], form: str | None = None) -> Iterator[str]:
    """Read the texts of a dataset's files, one row after the other.

    Args:
        form: the declared format; None lets each row say what it is.

    Raises:
        ZooError: a damaged file, or a row that is not of the format, named by file and line; or no row at all.
    """
    for row in read_rows(paths, form):
        yield (FORMATS[form] if form is not None else any_text)(row)


def read_rows(paths: Sequence[Path], form: str | None = None) -> Iterator[DatasetRow]:
    """Read the rows of a dataset's files; what a row holds is not looked at yet."""
    if form is not None and form not in FORMATS:
        raise unknown("dataset format", form, FORMATS)
    seen = False
    for path in paths:
        for stream in open_streams(path):
            if _skipped(stream, path, form):
                continue
            for row in rows(stream, header=form != "opencompass"):
                seen = True
                yield row
    if not seen:
        raise ZooError(f"{', '.join(path.name for path in paths)}: holds no row of data")


_DATA = (".csv", ".json", ".jsonl", ".ndjson", ".txt")


def _skipped(stream: TextStream, path: Path, form: str | None) -> bool:
    """Tell whether a member of an archive is not data: a licence, a picture, an operating system's own file."""
    if path.suffix.lower() != ".zip":
        return False
    if stream.kind not in _DATA or "__MACOSX/" in stream.name or "/." in stream.name:
        return True
    # The test split of C-Eval has no answers, and is what models are scored on.
    return form == "ceval" and ("/test/" in stream.name or stream.kind != ".csv")


def _field(row: DatasetRow, name: str, *, empty: bool = False) -> str:
    value = row.value.get(name) if isinstance(row.value, dict) else None
    if not isinstance(value, str):
        raise row.wrong(f"wanted a text as {name!r}, found {_shown(row.value, name)}")
    if not value.strip() and not empty:
        raise row.wrong(f"{name!r} is empty")
    return value


def _shown(value: Any, name: str) -> str:
    if not isinstance(value, dict):
        return f"a {type(value).__name__} instead of an object"
    if name in value:
        return f"a {type(value[name]).__name__}"
    return f"the fields {', '.join(map(str, list(value)[:8]))}" if value else "no field"


def _text_jsonl(row: DatasetRow) -> str:
    return _field(row, "text", empty=True) + "\n"


def _alpaca(row: DatasetRow) -> str:
    parts = [_field(row, "instruction")]
    if row.value.get("input") is not None:
        parts.append(_field(row, "input", empty=True))
    parts.append(_field(row, "output", empty=True))
    return "\n".join(part for part in parts if part) + "\n\n"


def conversation(row: DatasetRow) -> list[tuple[str, str]]:
    """The turns of a ShareGPT row: (who, what).

    Raises:
        ZooError: it is none, named by file and line.
    """
    turns = row.value.get("conversations") if isinstance(row.value, dict) else None
    if not isinstance(turns, list):
        raise row.wrong(f"wanted a list as 'conversations', found {_shown(row.value, 'conversations')}")
    found = []
    for turn in turns:
        if not isinstance(turn, dict) or not all(isinstance(turn.get(key), str) for key in ("from", "value")):
            raise row.wrong("a turn of 'conversations' is not an object with the texts 'from' and 'value'")
        found.append((turn["from"], turn["value"]))
    return found


def _sharegpt(row: DatasetRow) -> str:
    return "".join(f"{value}\n" for _, value in conversation(row)) + "\n"


_CHOICES = ("A", "B", "C", "D")


def _ceval(row: DatasetRow) -> str:
    question = _field(row, "question")
    options = [f"{choice}. {_field(row, choice, empty=True)}" for choice in _CHOICES]
    answer = _field(row, "answer")
    if answer not in _CHOICES:
        raise row.wrong(f"'answer' is {answer!r}, not one of A, B, C, D")
    explanation = row.value.get("explanation") or ""
    return "\n".join([question, *options, f"答案：{answer}", *([explanation] if explanation else [])]) + "\n\n"


def _opencompass(row: DatasetRow) -> str:
    if isinstance(row.value, list):
        return "\n".join(str(item) for item in row.value) + "\n\n"
    if isinstance(row.value, dict):
        return "\n".join(str(item) for item in row.value.values() if isinstance(item, str | int | float)) + "\n\n"
    if isinstance(row.value, str):
        return row.value
    raise row.wrong(f"wanted an object, found a {type(row.value).__name__}")


def any_text(row: DatasetRow) -> str:
    """The text of a row of a file that nobody declared: plain text, or one of the known kinds of objects."""
    if isinstance(row.value, str):
        return row.value if row.value.endswith("\n") else row.value + "\n"
    if isinstance(row.value, dict):
        for name, reader in (
            ("text", _text_jsonl), ("conversations", _sharegpt), ("instruction", _alpaca), ("question", _ceval),
        ):  # fmt: skip
            if name in row.value:
                return reader(row)
    raise row.wrong(
        f"wanted a text, or an object with 'text', 'conversations', 'instruction' or 'question'; found "
        f"{_shown(row.value, 'text')}"
    )


FORMATS: dict[str, Reader] = {
    "text-jsonl": _text_jsonl,
    "alpaca": _alpaca,
    "ceval": _ceval,
    "sharegpt": _sharegpt,
    "opencompass": _opencompass,
}
