"""One answer taken apart as it comes: thoughts, then text and calls of tools."""

from __future__ import annotations

from collections.abc import Collection

from zoo.conversation.calls import CallReader
from zoo.conversation.parts import AnswerPart
from zoo.conversation.thinking import ThoughtSplitter
from zoo.declarations.conversation import Thinking, ToolFormat


class AnswerReader:
    """Reads one answer.

    Args:
        thinking: how thoughts are marked; None for a model that marks none.
        opened: the prompt ends inside thoughts.
        form: how calls are written; None where no tool may be called.
        tools: the names that may be called.
    """

    def __init__(
        self, thinking: Thinking | None, opened: bool, form: ToolFormat | None, tools: Collection[str] = ()
    ) -> None:
        self._thoughts = ThoughtSplitter(thinking, opened) if thinking is not None else None
        self._calls = CallReader(form, tools) if form is not None else None

    @property
    def called(self) -> bool:
        """Whether a tool was called."""
        return self._calls is not None and self._calls.called

    def add(self, piece: str) -> list[AnswerPart]:
        """Take a piece; return what is certain of it."""
        return self._read(self._thoughts.add(piece) if self._thoughts is not None else [AnswerPart("content", piece)])

    def rest(self) -> list[AnswerPart]:
        """Return what was held back, at the end."""
        parts = self._read(self._thoughts.rest()) if self._thoughts is not None else []
        return parts + (self._calls.rest() if self._calls is not None else [])

    def _read(self, parts: list[AnswerPart]) -> list[AnswerPart]:
        if self._calls is None:
            return [part for part in parts if part.text]
        read: list[AnswerPart] = []
        for part in parts:
            read += self._calls.add(part.text) if part.kind == "content" else [part]
        return read
