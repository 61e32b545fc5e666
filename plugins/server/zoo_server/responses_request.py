"""Requests of ``/v1/responses``, checked, and as the conversations that they are."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, StringConstraints, ValidationError

from zoo_server.errors import ApiError, invalid
from zoo_server.schemas import MAX_TOKENS, ChatRequest, RequestPart

NOTHING: dict[str, tuple[Any, ...]] = {
    "previous_response_id": (None,), "conversation": (None,), "prompt": (None,), "background": (None, False),
    "top_logprobs": (None, 0), "truncation": (None, "disabled"), "max_tool_calls": (None,),
    "store": (None, False, True),
}  # fmt: skip
"""Fields that are not supported → values that ask for nothing; what is not kept cannot be referred to."""
BOOKS = frozenset(
    {
        "user", "safety_identifier", "prompt_cache_key", "prompt_cache_retention", "service_tier", "include",
        "stream_options", "context_management",
    }
)  # fmt: skip
Item = dict[str, Any]


class ResponsesRequest(RequestPart):
    """``POST /v1/responses``."""

    neutral = NOTHING
    ignored = BOOKS

    model: Annotated[str, StringConstraints(min_length=1, max_length=300)]
    input: str | Annotated[list[Item], Field(fail_fast=True, min_length=1, max_length=4096)]
    instructions: str | None = None
    tools: Annotated[list[Item], Field(fail_fast=True, max_length=1000)] | None = None
    tool_choice: str | Item | None = None
    parallel_tool_calls: bool | None = None
    text: Item | None = None
    reasoning: Item | None = None
    temperature: float | None = None
    top_p: float | None = None
    max_output_tokens: Annotated[int, Field(ge=1, le=MAX_TOKENS)] | None = None
    stream: bool | None = None
    metadata: dict[str, Any] | None = None
    chat_template_kwargs: dict[str, Any] | None = None

    @property
    def format(self) -> Item | None:
        """The form of the answer."""
        stated = (self.text or {}).get("format")
        return stated if isinstance(stated, dict) else None

    @property
    def effort(self) -> Any:
        """How much the model is to think."""
        return (self.reasoning or {}).get("effort")

    def as_chat(self) -> ChatRequest:
        """Write the request as one of ``/v1/chat/completions``.

        Raises:
            ApiError: it cannot be.
        """
        made: dict[str, Any] = {
            "model": self.model, "messages": self._messages(), "stream": self.stream, "temperature": self.temperature,
            "top_p": self.top_p, "max_completion_tokens": self.max_output_tokens, "reasoning_effort": self.effort,
            "parallel_tool_calls": self.parallel_tool_calls, "response_format": _format(self.format),
            "tools": None if self.tools is None else [_tool(at, tool) for at, tool in enumerate(self.tools)],
            "tool_choice": self._choice(), "chat_template_kwargs": self.chat_template_kwargs,
        }  # fmt: skip
        try:
            body = ChatRequest.model_validate(made)
        except ValidationError as error:
            raise invalid(error) from None
        body.check()
        return body

    def _choice(self) -> Any:
        choice = self.tool_choice
        if isinstance(choice, dict) and choice.get("type") == "function" and "name" in choice:
            return {"type": "function", "function": {"name": choice["name"]}}
        return choice

    def _messages(self) -> list[Item]:
        messages: list[Item] = []
        if self.instructions:
            messages.append({"role": "system", "content": self.instructions})
        if isinstance(self.input, str):
            return [*messages, {"role": "user", "content": self.input}]
        thought = ""
        for at, item in enumerate(self.input):
            kind = item.get("type", "message")
            if kind == "message":
                message = {"role": item.get("role"), "content": item.get("content")}
                if thought and item.get("role") == "assistant":
                    message["reasoning_content"], thought = thought, ""
                messages.append(message)
            elif kind == "function_call":
                function = {"name": item.get("name"), "arguments": item.get("arguments", "{}")}
                call = {"id": item.get("call_id"), "type": "function", "function": function}
                last = messages[-1] if messages else {}
                if last.get("role") != "assistant":
                    last = {"role": "assistant", "content": None} | ({"reasoning_content": thought} if thought else {})
                    messages.append(last)
                    thought = ""
                last.setdefault("tool_calls", []).append(call)
            elif kind == "function_call_output":
                messages.append({"role": "tool", "tool_call_id": item.get("call_id"), "content": item.get("output")})
            elif kind == "reasoning":
                parts = item.get("content") or item.get("summary") or []
                thought = "".join(str(part.get("text", "")) for part in parts if isinstance(part, dict))
            else:
                message_text = f"input.{at}: an item of type {str(kind)[:60]!r} is not supported"
                raise ApiError(400, message_text, code="unsupported_parameter", param=f"input.{at}")
        return messages


def _tool(at: int, tool: Item) -> Item:
    kind = tool.get("type")
    if kind != "function":
        message = f"tools.{at}: a tool of type {str(kind)[:60]!r} is not supported; this server knows functions"
        raise ApiError(400, message, code="unsupported_parameter", param=f"tools.{at}")
    return {"type": "function", "function": {name: value for name, value in tool.items() if name != "type"}}


def _format(given: Item | None) -> Item | None:
    if given is None or given.get("type") != "json_schema":
        return given
    return {"type": "json_schema", "json_schema": {name: value for name, value in given.items() if name != "type"}}
