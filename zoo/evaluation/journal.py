"""Answers that are known already, one line each, so that a run that was killed goes on where it was."""

from __future__ import annotations

import contextlib
import hashlib
import json
from pathlib import Path
from typing import IO, Any

from zoo.errors import ZooError

_FLUSH = 64
"""Answers after which the file is brought to the disk."""


class Journal:
    """Answers by the digest of their request, in a file that only grows.

    A line that a killed run left half-written is passed over; the next one begins on a line of its own.
    """

    def __init__(self, path: Path) -> None:
        """Read what is there, and go on after it.

        Raises:
            ZooError: the file cannot be written to.
        """
        self.path = path
        self._answers: dict[str, Any] = {}
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            raw = path.read_bytes() if path.exists() else b""
            self._file: IO[str] = path.open("a", encoding="utf-8")
        except OSError as error:
            raise ZooError(f"{path}: {error.strerror or error}") from None
        for line in raw.splitlines():
            with contextlib.suppress(ValueError, KeyError, TypeError):
                entry = json.loads(line)
                self._answers[entry["request"]] = entry["answer"]
        if raw and not raw.endswith(b"\n"):
            self._file.write("\n")
        self.resumed = len(self._answers)
        self._pending = 0

    def known(self, request: str) -> Any:
        """Give the answer to a request, or None."""
        return self._answers.get(request)

    def add(self, request: str, answer: Any) -> None:
        """Keep an answer."""
        self._answers[request] = answer
        self._file.write(json.dumps({"request": request, "answer": answer}) + "\n")
        self._pending += 1
        if self._pending >= _FLUSH:
            self._file.flush()
            self._pending = 0

    def close(self, *, done: bool) -> None:
        """Close the file; ``done``: what it was kept for stands in a report, so remove it."""
        self._file.close()
        if done:
            self.path.unlink(missing_ok=True)


def request_key(kind: str, request: Any) -> str:
    """Name a request by what decides its answer."""
    return hashlib.sha256(json.dumps([kind, request], ensure_ascii=False).encode()).hexdigest()
