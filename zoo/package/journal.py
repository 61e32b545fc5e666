"""What a build has finished, so that one killed at any moment goes on where it was.

The data files are hashed in order while they are written. Each time a parameter is complete, the journal gets a line
with how much of all weights is done and the SHA-256 of its file up to there, at no cost. A resumed build reads that
much back, and believes the last line whose checksum holds; whatever the disk lost is built again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from threading import Event
from typing import IO, Any

from zoo.declarations.base import digest
from zoo.package.datafile import DataSection, Resumed

JOURNAL = "journal.jsonl"
_PIECE = 4 * 2**20


def identity(recipe_hash: str, places: Any, stamps: Mapping[str, tuple[int, int]]) -> str:
    """Name a piece of work: what is built, where each array goes, and the state of the input files."""
    return digest(
        {"recipe": recipe_hash, "places": places, "inputs": {name: list(one) for name, one in stamps.items()}}
    )


class Journal:
    """The journal of one partial folder."""

    def __init__(self, folder: Path, work: str) -> None:
        self._path = folder / JOURNAL
        self._work = work
        self._file: IO[str] | None = None

    def resume(self, sections: Sequence[DataSection], stop: Event | None = None) -> Resumed:
        """Find how far an earlier build of the same work got.

        Args:
            sections: the data files.
            stop: reading back ends where it is once this is set.
        """
        resumed = Resumed(0, hashlib.sha256(sections[0].header), {})
        marks, checksums = self._marks(), dict[str, str]()
        at = 0
        for section in sections:
            running = hashlib.sha256(section.header)
            mine = [mark for mark in marks if section.start < mark[0] <= section.stop]
            if not mine or not section.path.is_file():
                break
            with section.path.open("rb", buffering=0) as file:
                file.seek(len(section.header))
                for end, checksum in mine:
                    while at < end:
                        piece = file.read(min(_PIECE, end - at))
                        if not piece or (stop is not None and stop.is_set()):
                            return resumed
                        running.update(piece)
                        at += len(piece)
                    if running.hexdigest() != checksum:
                        return resumed
                    resumed = Resumed(at, running.copy(), dict(checksums))
            if at < section.stop:
                break
            checksums[section.path.name] = running.hexdigest()
        return resumed

    def _marks(self) -> list[tuple[int, str]]:
        """Read the lines of the same work, up to the first that makes no sense (the last one may be torn)."""
        marks: list[tuple[int, str]] = []
        try:
            with self._path.open(encoding="utf-8", errors="replace") as file:
                if json.loads(file.readline()) != {"work": self._work}:
                    return []
                for line in file:
                    entry = json.loads(line)
                    stop, checksum = entry["stop"], entry["sha256"]
                    if not isinstance(stop, int) or stop <= (marks[-1][0] if marks else 0):
                        break
                    marks.append((stop, str(checksum)))
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            pass
        return marks

    def exists(self) -> bool:
        """Tell whether an earlier build left a journal, of whatever work."""
        return self._path.exists()

    def matches(self) -> bool:
        """Tell whether the journal that is there belongs to this work."""
        try:
            with self._path.open(encoding="utf-8", errors="replace") as file:
                return bool(json.loads(file.readline()) == {"work": self._work})
        except (OSError, ValueError, RecursionError):
            return False

    def begin(self, done: int) -> None:
        """Open for writing, keeping only what is known to be right: the lines up to ``done``."""
        marks = [mark for mark in self._marks() if mark[0] <= done]
        self._file = self._path.open("w", encoding="utf-8")
        self._line({"work": self._work})
        for stop, checksum in marks:
            self.mark(stop, checksum)

    def mark(self, stop: int, checksum: str) -> None:
        """Record that the weights are right up to ``stop``, which ``checksum`` of their file says."""
        self._line({"stop": stop, "sha256": checksum})

    def _line(self, value: Any) -> None:
        assert self._file is not None
        self._file.write(json.dumps(value) + "\n")
        self._file.flush()

    def close(self, *, remove: bool = False) -> None:
        """Close the file; remove it when there is nothing left to resume."""
        if self._file is not None:
            self._file.close()
            self._file = None
        if remove:
            self._path.unlink(missing_ok=True)
