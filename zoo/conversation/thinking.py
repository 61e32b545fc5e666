"""Thoughts apart from the answer."""

from __future__ import annotations

from zoo.conversation.parts import AnswerPart, HeldBack
from zoo.declarations.conversation import Thinking


class ThoughtSplitter:
    """Splits a text that comes piece by piece.

    Args:
        thinking: how thoughts are marked.
        opened: the prompt ends inside them: the template wrote the beginning itself.
    """

    def __init__(self, thinking: Thinking, opened: bool) -> None:
        self._thinking = thinking
        self._inside = opened
        self._sure = opened
        """It is known whether the answer begins with thoughts."""
        self._begun = ""
        """What came until it is."""
        self._end = HeldBack(thinking.end)
        self._trim = True
        """Blanks that follow a marker say nothing."""

    def add(self, piece: str) -> list[AnswerPart]:
        """Take a piece; return what is certain of it."""
        if not self._sure:
            self._begun += piece
            start, begun = self._thinking.start, self._begun.lstrip()
            if start.startswith(begun) and begun != start:
                return []
            self._sure, self._inside = True, begun.startswith(start)
            piece, self._begun = (begun[len(start) :] if self._inside else self._begun), ""
            self._trim = self._inside
        if not self._inside:
            return self._text("content", piece)
        before, marker, after = self._end.add(piece)
        parts = self._text("reasoning", before)
        if marker is not None:
            self._inside, self._trim = False, True
            parts += self._text("content", after)
        return parts

    def rest(self) -> list[AnswerPart]:
        """Return what was held back."""
        if not self._sure:
            self._sure = True
            return [AnswerPart("content", self._begun)] if self._begun else []
        return self._text("reasoning", self._end.rest()) if self._inside else []

    def _text(self, kind: str, text: str) -> list[AnswerPart]:
        if self._trim:
            text = text.lstrip()
        if not text:
            return []
        self._trim = False
        return [AnswerPart("reasoning" if kind == "reasoning" else "content", text)]
