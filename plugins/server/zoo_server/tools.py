"""The functions that a request offers, and which of them an answer may or must call."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from zoo.conversation.grammar import Tool
from zoo_server.errors import ApiError

MAX_TOOLS = 128
Name = Annotated[str, StringConstraints(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]
Mode = Literal["none", "auto", "required"]


class FunctionParam(BaseModel):
    """A function: its name, what it is for, and a JSON schema of its arguments."""

    model_config = ConfigDict(strict=True, frozen=True, extra="ignore", hide_input_in_errors=True)

    name: Name
    description: Annotated[str, StringConstraints(max_length=20_000)] | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None
    """Arguments of calls that are required are so either way."""


class ToolParam(BaseModel):
    """A tool."""

    model_config = ConfigDict(strict=True, frozen=True, extra="ignore", hide_input_in_errors=True)

    type: Literal["function"]
    function: FunctionParam

    def plain(self) -> dict[str, Any]:
        """Write the tool as templates expect it."""
        given = self.function
        function: dict[str, Any] = {"name": given.name, "description": given.description or ""}
        function["parameters"] = given.parameters or {"type": "object", "properties": {}}
        return {"type": "function", "function": function}


class ChosenName(BaseModel):
    """The name of the function that must be called."""

    model_config = ConfigDict(strict=True, frozen=True, extra="ignore", hide_input_in_errors=True)

    name: str


class ChosenTool(BaseModel):
    """``tool_choice`` that names a function."""

    model_config = ConfigDict(strict=True, frozen=True, extra="ignore", hide_input_in_errors=True)

    type: Literal["function"]
    function: ChosenName


Tools = Annotated[list[ToolParam], Field(fail_fast=True, max_length=MAX_TOOLS)]
ToolChoice = Mode | ChosenTool


class Offer:
    """What an answer may call.

    Args:
        tools: what the request offers.
        choice: what it says of calls; by default the model decides where there are tools.

    Raises:
        ApiError: two tools of one name, or a choice that nothing can follow.
    """

    def __init__(self, tools: list[ToolParam] | None, choice: ToolChoice | None) -> None:
        self._tools = tools or []
        names = [tool.function.name for tool in self._tools]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise ApiError(400, f"two tools have the name {twice!r}", code="invalid_value", param="tools")
        name = choice.function.name if isinstance(choice, ChosenTool) else None
        if name is not None and name not in names:
            known = ", ".join(names[:10]) or "none"
            message = f"tool_choice names {name[:100]!r}, which is not among the tools: {known}"
            raise ApiError(400, message, code="invalid_value", param="tool_choice")
        if choice == "required" and not names:
            raise ApiError(400, "tool_choice: required needs tools", code="invalid_value", param="tool_choice")
        self.mode: str = "required" if name is not None else str(choice or "auto") if names else "none"
        self._name = name

    @property
    def is_open(self) -> bool:
        """Whether any tool may be called."""
        return self.mode != "none"

    @property
    def names(self) -> list[str]:
        """The names that may be called."""
        return [tool.name for tool in self.tools()]

    def plain(self) -> list[dict[str, Any]] | None:
        """Write the tools as templates expect them."""
        return [tool.plain() for tool in self._tools] if self.is_open else None

    def tools(self) -> list[Tool]:
        """List those that may be called, with the schemas of their arguments."""
        return [
            Tool(tool.function.name, tool.function.parameters or {"type": "object", "properties": {}})
            for tool in self._tools
            if self.is_open and self._name in (None, tool.function.name)
        ]
