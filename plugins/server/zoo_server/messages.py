"""Turns of a conversation as clients send them, and as chat templates expect them.

Clients send answers back as they dumped them: fields that only keep books, or ask for nothing, are passed over. A field
that nobody knows is an error, as it is outside messages.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator

from zoo.errors import unknown
from zoo_server.errors import ApiError

KEPT_BOOKS = frozenset(
    {
        "annotations", "id", "cache_control", "created", "created_at", "status", "type", "model", "reasoning_details",
        "provider_specific_fields", "additional_kwargs", "response_metadata", "usage_metadata", "thinking_blocks",
        "images", "logprobs", "metadata",
    }
)  # fmt: skip
"""Fields of a message that say something about it, and nothing of it."""
EMPTY: tuple[Any, ...] = (None, [], {}, "")
"""Values that ask for nothing."""
TEXT_PARTS = {"text": "text", "input_text": "text", "output_text": "text", "refusal": "refusal"}
"""Kinds of content that are text → where it stands."""
OTHER_PARTS = {"image": "images", "input_image": "images", "audio": "audio", "file": "files", "video": "video"}
"""How the kinds begin that are not → what they are."""
FunctionName = Annotated[str, StringConstraints(pattern=r"^[a-zA-Z0-9_.-]{1,64}$")]


class CalledFunction(BaseModel):
    """What the assistant called."""

    model_config = ConfigDict(strict=True, frozen=True, extra="ignore", hide_input_in_errors=True)

    name: FunctionName
    arguments: str | dict[str, Any] = "{}"
    """JSON, written out as OpenAI does; some clients send the object."""


class ToolCall(BaseModel):
    """A call that the assistant made in an earlier turn."""

    model_config = ConfigDict(strict=True, frozen=True, extra="ignore", hide_input_in_errors=True)

    id: Annotated[str, StringConstraints(max_length=300)] | None = None
    type: Literal["function"] = "function"
    function: CalledFunction


class Message(BaseModel):
    """A turn of a conversation."""

    model_config = ConfigDict(strict=True, frozen=True, extra="allow", hide_input_in_errors=True)

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | None = None
    """Text; content in parts is put together."""
    name: Annotated[str, StringConstraints(max_length=300)] | None = None
    tool_calls: Annotated[list[ToolCall], Field(fail_fast=True, max_length=128)] | None = None
    tool_call_id: Annotated[str, StringConstraints(max_length=300)] | None = None
    refusal: str | None = None
    reasoning_content: str | None = None
    """What the assistant thought before it answered; templates may leave it out."""
    reasoning: str | None = None
    """The same, as some servers name it."""

    @field_validator("content", mode="before")
    @classmethod
    def _text(cls, content: Any) -> Any:
        if content is None or isinstance(content, str):
            return content
        if not isinstance(content, list):
            raise ValueError("a message's content is a text, or a list of parts {'type': 'text', 'text': …}")
        return "".join(_part(part) for part in content)

    def check(self, at: int, called: Collection[str | None]) -> None:
        """Refuse fields that nobody knows, and a tool's result that answers no call.

        Args:
            at: which message it is, for the error.
            called: the ids of the calls that came before; None for a call without one.

        Raises:
            ApiError: the first of them.
        """
        self._check_result(at, called)
        for name, value in (self.model_extra or {}).items():
            if name in KEPT_BOOKS or value in EMPTY:
                continue
            param = f"messages.{at}.{name[:100]}"
            if name in ("audio", "function_call"):
                message = f"{name} in a message is not supported; tool calls go by tool_calls"
                raise ApiError(400, message, code="unsupported_parameter", param=param)
            message = f"{unknown('field', name[:100], type(self).model_fields)} in messages.{at}"
            raise ApiError(400, message, code="unknown_parameter", param=param)

    def _check_result(self, at: int, called: Collection[str | None]) -> None:
        """Refuse a tool's result without a call; one that does not say which call it answers is taken as it comes."""
        if self.role != "tool" or (called and (self.tool_call_id is None or {self.tool_call_id, None} & set(called))):
            return
        what = f"the call {self.tool_call_id[:60]!r}" if self.tool_call_id and called else "a call"
        message = f"messages.{at} is a tool's result, and no message before it makes {what}"
        raise ApiError(400, message, code="invalid_value", param=f"messages.{at}.tool_call_id")

    def plain(self) -> dict[str, Any]:
        """Write the turn as templates expect it."""
        made: dict[str, Any] = {"role": "system" if self.role == "developer" else self.role}
        made["content"] = self.content or self.refusal or ""
        if self.name:
            made["name"] = self.name
        if self.tool_calls:
            made["tool_calls"] = [_call(call) for call in self.tool_calls]
        if self.role == "tool" and self.tool_call_id:
            made["tool_call_id"] = self.tool_call_id
        if thought := self.reasoning_content or self.reasoning:
            made["reasoning_content"] = thought
        return made


def _part(part: Any) -> str:
    """Take the text of a part of a message's content."""
    if isinstance(part, str):
        return part
    kind = part.get("type") if isinstance(part, dict) else None
    if not isinstance(part, dict) or not isinstance(kind, str):
        raise ValueError("a part of a message's content is {'type': 'text', 'text': …}")
    for begins, name in OTHER_PARTS.items():
        if kind.startswith(begins):
            raise ValueError(f"{name} (a part of type {kind[:40]!r}) are not supported: this model reads text only")
    where = TEXT_PARTS.get(kind)
    if where is None:
        raise ValueError(f"a part of type {kind[:40]!r} is not supported; this model reads parts of type 'text'")
    text = part.get(where)
    if not isinstance(text, str):
        raise ValueError(f"a part of type {kind!r} has no {where!r} that is a text")
    return text


def _call(call: ToolCall) -> dict[str, Any]:
    """Write a call as templates expect it: the arguments as an object, where they are one."""
    arguments: Any = call.function.arguments
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments)
        except (ValueError, RecursionError):
            arguments = call.function.arguments  # what a model wrote need not be JSON; the template prints it as it is
    function = {"name": call.function.name, "arguments": arguments}
    return {"type": "function", "function": function} | ({"id": call.id} if call.id else {})
