"""What an answer is made of, as it comes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class AnswerPart:
    """A piece of an answer.

    Attributes:
        kind: thoughts, text, the beginning of a call (its tool's name), or more of a call's arguments (JSON).
        text: the piece.
        call: which call it belongs to, from 0 on.
    """

    kind: Literal["reasoning", "content", "call", "arguments"]
    text: str
    call: int = 0


class HeldBack:
    """Finds the first of some markers in a text that comes piece by piece; holds back what might become one.

    Args:
        markers: texts that are not empty.
    """

    def __init__(self, *markers: str) -> None:
        self._markers = markers
        self._held = ""

    def add(self, piece: str) -> tuple[str, str | None, str]:
        """Take a piece.

        Returns:
            Text before a marker that is certain; the marker, or None; what came after it.
        """
        text = self._held + piece
        hits = [(at, marker) for marker in self._markers if (at := text.find(marker)) >= 0]
        if hits:
            at, marker = min(hits)
            self._held = ""
            return text[:at], marker, text[at + len(marker) :]
        longest = max(map(len, self._markers)) - 1
        keep = next(
            (
                size
                for size in range(min(longest, len(text)), 0, -1)
                if any(marker.startswith(text[-size:]) for marker in self._markers)
            ),
            0,
        )
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep], None, ""

    def rest(self) -> str:
        """Return what was held back after all."""
        held, self._held = self._held, ""
        return held
