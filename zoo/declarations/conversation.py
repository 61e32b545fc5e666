"""How a family's models write what is not plain text in a conversation: calls of tools, and thoughts."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints, model_validator

from zoo.declarations.base import Value

Marker = Annotated[str, StringConstraints(max_length=100)]
Key = Annotated[str, StringConstraints(pattern=r"^\w{1,40}$")]


class ToolFormat(Value):
    """How calls of tools stand in an answer: ``start``, each call between ``before`` and ``after``, ``end``.

    Absent, a model's calls are those of a declared format whose markers its chat template writes.
    """

    calls: Literal["object", "list", "named", "pythonic"]
    """Each call a JSON object; all calls one JSON list of such objects; a name and its arguments as JSON; a Python list
    of calls with keyword arguments."""
    start: Marker = ""
    """Before the first call."""
    optional_start: Marker = ""
    """What may stand before the first call, and need not."""
    before: Marker = ""
    """Before each call."""
    separator: Marker = ""
    """Between a name and its arguments, of calls that are ``named``."""
    after: Marker = ""
    """After each call."""
    between: Marker = ""
    """Between two calls."""
    end: Marker = ""
    """After the last call."""
    name: Key = "name"
    """The key of a tool's name, of calls that are objects."""
    arguments: Key = "arguments"
    """The key of its arguments."""

    @model_validator(mode="after")
    def _check(self) -> ToolFormat:
        if self.calls == "named" and not (self.separator and (self.start or self.before)):
            raise ValueError("calls that are named need a separator, and a start or something before each")
        return self

    @property
    def marker(self) -> str:
        """What shows that calls begin; empty where the first brace or bracket does."""
        return (self.start or self.before).strip()


class Thinking(Value):
    """How a model's thoughts before its answer are marked."""

    start: Annotated[str, StringConstraints(min_length=1, max_length=100)] = "<think>"
    """Before the thoughts; a template may write it already."""
    end: Annotated[str, StringConstraints(min_length=1, max_length=100)] = "</think>"
    """After the thoughts."""
    switch: Key | None = Field(default=None)
    """The template's variable that turns thinking off where it is false, such as ``enable_thinking``."""


class Manners(Value):
    """How one model writes what is not plain text; None where it does not."""

    tools: ToolFormat | None = None
    thinking: Thinking | None = None

    @property
    def markers(self) -> tuple[str, ...]:
        """All texts that mark something."""
        tools, thinking = self.tools, self.thinking
        of_tools = () if tools is None else (
            tools.start, tools.optional_start, tools.before, tools.separator, tools.after, tools.between, tools.end
        )  # fmt: skip
        of_thinking = () if thinking is None else (thinking.start, thinking.end)
        return tuple(marker for marker in (*of_tools, *of_thinking) if marker)
