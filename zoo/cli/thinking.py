"""Thoughts in ``zoo run --chat``: asked for or not, shown or not, and never part of the answer."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from zoo.errors import UsageError

if TYPE_CHECKING:
    from zoo.contracts import Engine, ServedEngine
    from zoo.contracts.constraint import Constraint
    from zoo.conversation.reader import AnswerReader
    from zoo.declarations.conversation import Thinking

TAIL = 32
"""Number of tokens at a prompt's end that may start the thinking."""


@dataclass
class Thoughts:
    """How a model's thinking is handled.

    Attributes:
        thinking: how they are marked; None for a model that has none.
        show: write them to stderr.
        variables: of the chat template.
    """

    thinking: Thinking | None = None
    show: bool = False
    variables: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def choose(cls, thinking: Thinking | None, *, off: bool, show: bool, name: str) -> Thoughts:
        """Decide how thinking is handled.

        Args:
            off: the model is to answer without them.
            name: the model's, for the error.

        Raises:
            UsageError: they cannot be turned off.
        """
        if off and thinking is not None and thinking.switch is None:
            raise UsageError(f"--no-think: {name} always thinks; its chat template has no switch for it")
        variables = {thinking.switch: False} if off and thinking is not None and thinking.switch is not None else {}
        return cls(thinking, show, variables)

    def encode(self, engine: Engine, messages: Sequence[Mapping[str, Any]]) -> list[int]:
        """Turn a conversation into ids."""
        if not self.variables:
            return engine.encode_chat(messages)
        return cast("ServedEngine", engine).encode_chat(messages, variables=self.variables)

    def opened(self, engine: ServedEngine, ids: Sequence[int]) -> bool:
        """Return whether a prompt ends inside the thinking, because the template starts it."""
        if self.thinking is None or engine.tokenizer is None:
            return False
        return engine.tokenizer.decode(ids[-TAIL:], skip_special=False).rstrip().endswith(self.thinking.start)

    def constraint(self, engine: ServedEngine, schema: Any, opened: bool) -> Constraint | None:
        """Return the constraint of the answer: JSON by a schema, after the thinking; None for any text."""
        if schema is None:
            return None
        from zoo.conversation.grammar import GrammarWriter
        from zoo.structured import Structure

        return engine.guide.compile(
            GrammarWriter(engine.guide.special).form(Structure("schema", schema), self.thinking, opened), "schema"
        )

    def reader(self, opened: bool) -> ThoughtReader:
        """Create the splitter of one answer."""
        from zoo.conversation.reader import AnswerReader

        return ThoughtReader(AnswerReader(self.thinking, opened, None), self.show)


class ThoughtReader:
    """Splits one answer into thinking and text, and shows the thinking if asked.

    Attributes:
        content: the answer without them.
        reasoning: the thoughts.
    """

    def __init__(self, reader: AnswerReader, show: bool) -> None:
        self._reader, self._show = reader, show
        self.content = self.reasoning = ""

    def add(self, piece: str, *, last: bool = False) -> str:
        """Add a piece of text; return the part that belongs to the answer."""
        text = ""
        for part in self._reader.add(piece) + (self._reader.rest() if last else []):
            if part.kind == "reasoning":
                self.reasoning += part.text
                if self._show:
                    print(part.text, end="", file=sys.stderr, flush=True)
                continue
            if self._show and self.reasoning and not self.content:
                print(file=sys.stderr, flush=True)  # the answer begins a line of its own on a terminal
            text += part.text
            self.content += part.text
        return text
