"""Readers of datasets, archives and zoo's own notes, for the fuzzers."""

from __future__ import annotations

import gzip
import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path

LINE = (
    b'{"text": "one"}\n{"instruction": "a", "input": "b", "output": "c"}\n\n'
    b'{"conversations": [{"from": "x", "value": "y"}]}\n'
)
TABLE = b'id,question,A,B,C,D,answer\n1,"q ""x""",a,b,c,d,A\n'


def dataset(room: Callable[[], Path], name: str) -> Callable[[bytes], object]:
    """Return a reader of a dataset's file of a name."""

    def read(raw: bytes) -> object:
        from zoo.datasets.texts import read_texts

        path = room() / name
        path.write_bytes(raw)
        return sum(len(text) for text in read_texts([path]))

    return read


def packed() -> tuple[bytes, ...]:
    """Compressed samples."""
    return (gzip.compress(LINE * 5), gzip.compress(LINE, 1) + gzip.compress(LINE))


def archived() -> tuple[bytes, ...]:
    """Archives of a dataset."""
    made = []
    for kind in (zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED):
        raw = io.BytesIO()
        with zipfile.ZipFile(raw, "w", kind) as file:
            file.writestr("data/val/a.csv", TABLE)
            file.writestr("data/x.jsonl", LINE)
        made.append(raw.getvalue())
    return tuple(made)


def archive(room: Callable[[], Path]) -> Callable[[bytes], object]:
    """Return a reader of the archive of an evaluation."""

    def read(raw: bytes) -> object:
        from zoo.evaluation.datafiles import open_data

        path = room() / "data.zip"
        path.write_bytes(raw)
        data = open_data(path)
        return [len(data.read(name)) for pattern in ("*/*", "*/*/*") for name in data.match(pattern)]

    return read


def staging(room: Callable[[], Path]) -> Callable[[bytes], object]:
    """Return a reader of the step that a killed publication noted."""
    from zoo.package.publish import recover
    from zoo.package.staging import make_staging

    def read(raw: bytes) -> object:
        output = room() / "staged" / "out"
        output.parent.mkdir(exist_ok=True)
        made = make_staging(output)
        made.step.write_bytes(raw)
        (made.new / "a").write_bytes(b"x")
        recover(output)
        assert not list(output.parent.iterdir())
        return None

    return read


def steps() -> tuple[bytes, ...]:
    """Steps of a publication."""
    said = ({"step": "swap", "old": 1}, {"step": "fill"}, {"step": "remove"})
    return tuple(json.dumps(step).encode() for step in said)
