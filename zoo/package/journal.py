"""What a build has finished, so that one killed at any moment goes on where it was.

The data file is hashed in its own order while it is written. Each time a parameter is complete, the journal gets a line
with the file's length so far and the SHA-256 up to there: a checksum of everything before, at no cost. A resumed build
reads that much back, and believes the last line whose checksum holds; whatever the disk lost is built again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from threading import Event
from typing import IO, Any

from zoo.declarations.base import digest

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

    def resume(self, data: Path, stop: Event | None = None) -> tuple[int, Any]:
        """Find how far an earlier build of the same work got.

        Args:
            data: the data file.
            stop: reading back ends where it is once this is set.

        Returns:
            The length of the data file's prefix that is surely right, and the SHA-256 state up to there.
        """
        best, state = 0, hashlib.sha256()
        marks = self._marks()
        if not marks or not data.is_file():
            return best, state
        running, at = state.copy(), 0
        with data.open("rb", buffering=0) as file:
            for end, checksum in marks:
                while at < end:
                    piece = file.read(min(_PIECE, end - at))
                    if not piece or (stop is not None and stop.is_set()):
                        return best, state
                    running.update(piece)
                    at += len(piece)
                if running.hexdigest() != checksum:
                    return best, state
                best, state = at, running.copy()
        return best, state

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
        marks = [one for one in self._marks() if one[0] <= done]
        self._file = self._path.open("w", encoding="utf-8")
        self._line({"work": self._work})
        for stop, checksum in marks:
            self.mark(stop, checksum)

    def mark(self, stop: int, checksum: str) -> None:
        """Record that the data file is right up to ``stop``."""
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
