"""A task over local files: the ``zoo:`` block of its YAML, which says where they are, and the rows made of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from pydantic import Field, JsonValue, ValidationError

from zoo.declarations.base import Name, Value, digest
from zoo.errors import ZooError
from zoo.evaluation.datafiles import DataFiles, find
from zoo.evaluation.rows import TaskRow, read_lines, read_rows
from zoo.yamlfile import explain

BLOCK = "zoo"
SUBJECT = "{subject}"


class LocalFiles(Value):
    """The ``zoo:`` block of a task's YAML."""

    dataset: Name | None = None
    """The declared dataset whose files they are, fetched or named by ``--data``; without one ``--data`` alone."""
    files: dict[str, str | tuple[str, ...]]
    """Split → path, or several of which the first that is there counts. ``{subject}`` makes a task of every match."""
    labels: dict[str, str] = Field(default_factory=dict)
    """Split → a file of one label a line, which becomes the column ``label``."""
    columns: tuple[str, ...] = ()
    """Titles of a CSV without any."""
    rename: dict[str, str] = Field(default_factory=dict)
    """Column as it stands in some layouts → column as the templates know it."""
    required: tuple[str, ...] = ()
    """Columns that no row may lack; one may be empty, as options of some exams are."""
    answer: str | None = None
    """The column of the right answer."""
    answers: tuple[JsonValue, ...] = ()
    """What may stand there, where that is known."""
    subjects: int | None = Field(default=None, ge=1)
    """How many subjects the whole dataset has."""
    generation: dict[str, JsonValue] = Field(default_factory=dict)
    """What changes of the task where it is scored by what the model writes."""


@dataclass
class LocalData:
    """The rows of one task, by split."""

    subject: str | None = None
    splits: dict[str, list[TaskRow]] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """A hash of all rows."""
        return digest({split: [row.values for row in rows] for split, rows in self.splits.items()})


def read_block(name: str, block: Any) -> LocalFiles:
    """Check a task's ``zoo:`` block.

    Raises:
        ZooError: what is wrong with it.
    """
    try:
        return LocalFiles.model_validate(block)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(step) for step in first["loc"])
        raise ZooError(f"task {name}: {BLOCK}.{where}: {explain(first)}") from None


def read_local(name: str, block: LocalFiles, data: DataFiles, splits: Sequence[str]) -> Iterator[LocalData]:
    """Read the rows of a task: one value, or one a subject.

    Args:
        splits: which are wanted; the first is the one that is scored.

    Raises:
        ZooError: a file is missing, a row has no answer, or something is not as the task says.
    """
    scored = splits[0]
    patterns = _patterns(block, scored)
    if not any(SUBJECT in pattern for pattern in patterns):
        yield _read(name, block, data, splits, None)
        return
    files = find(data, [pattern.replace(SUBJECT, "*") for pattern in patterns])
    if not files:
        raise _missing(name, data, patterns)
    for path in files:
        yield _read(name, block, data, splits, _subject(path, patterns))


def _subject(path: str, patterns: Sequence[str]) -> str:
    for pattern in patterns:
        before, _, after = PurePosixPath(pattern).name.partition(SUBJECT)
        file = PurePosixPath(path).name
        if file.startswith(before) and file.endswith(after):
            return file[len(before) : len(file) - len(after)]
    raise AssertionError(path)


def _patterns(block: LocalFiles, split: str) -> tuple[str, ...]:
    stated = block.files[split]
    return (stated,) if isinstance(stated, str) else stated


def _read(name: str, block: LocalFiles, data: DataFiles, splits: Sequence[str], subject: str | None) -> LocalData:
    read = LocalData(subject)
    for split in splits:
        patterns = [pattern.replace(SUBJECT, subject or "") for pattern in _patterns(block, split)]
        files = find(data, patterns)
        if not files:
            raise _missing(name, data, patterns)
        rows = [row for path in files for row in read_rows(path, data.read(path), block.columns)]
        if split in block.labels:
            rows = _labelled(name, data, files[0], block.labels[split], rows)
        if not rows:
            raise ZooError(f"task {name}: {files[0]} holds no rows")
        read.splits[split] = [_checked(block, row, subject) for row in rows]
    return read


def _labelled(name: str, data: DataFiles, path: str, labels: str, rows: list[TaskRow]) -> list[TaskRow]:
    files = find(data, [labels])
    if not files:
        raise _missing(name, data, [labels])
    values = read_lines(files[0], data.read(files[0]))
    if len(values) != len(rows):
        raise ZooError(f"task {name}: {files[0]} has {len(values)} labels for the {len(rows)} rows of {path}")
    return [
        TaskRow({**row.values, "label": int(value) if value.removeprefix("-").isdecimal() else value}, row.where)
        for row, value in zip(rows, values, strict=True)
    ]


def _checked(block: LocalFiles, row: TaskRow, subject: str | None) -> TaskRow:
    values = {block.rename.get(key, key): value for key, value in row.values.items()}
    for column in block.required:
        if values.get(column) is None:
            raise ZooError(f"{row.where}: no {column!r}; it is not of the layout that the task reads")
    if block.answer is not None:
        answer = values.get(block.answer)
        if answer in (None, ""):
            raise ZooError(f"{row.where}: a row without an answer ({block.answer!r} is empty or missing)")
        if block.answers and answer not in block.answers:
            known = ", ".join(map(str, block.answers))
            raise ZooError(f"{row.where}: the answer {str(answer)[:40]!r} is not one of {known}")
    if subject is not None:
        values["subject"] = subject.replace("_", " ")
    return TaskRow(values, row.where)


def _missing(name: str, data: DataFiles, patterns: Sequence[str]) -> ZooError:
    wanted = " or ".join(pattern.replace(SUBJECT, "*") for pattern in patterns)
    tops = data.tops()
    holds = ", ".join(tops[:8]) + (", …" if len(tops) > 8 else "") if tops else "nothing"
    return ZooError(f"task {name}: there is no {wanted} in {data.label}, which holds {holds}; name the right --data")


def plain_files(config: Mapping[str, Any]) -> dict[str, list[str]] | None:
    """Read which local files a harness task names through ``dataset_path: json`` or ``csv``; None where it names none.

    Returns:
        Split → paths, relative to the task's YAML.
    """
    kwargs = config.get("dataset_kwargs")
    if config.get("dataset_path") not in ("json", "csv", "text") or not isinstance(kwargs, Mapping):
        return None
    stated = kwargs.get("data_files")
    if stated is None or set(kwargs) != {"data_files"} or config.get("dataset_path") == "text":
        return None
    by_split = stated if isinstance(stated, Mapping) else {"train": stated}
    files = {str(split): [one] if isinstance(one, str) else list(one) for split, one in by_split.items()}
    if any("://" in path or "*" in path for paths in files.values() for path in paths):
        return None
    return files
