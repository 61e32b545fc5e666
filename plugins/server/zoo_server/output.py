"""The output items of a response, built part by part, and the events that tell of them."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

from zoo.conversation.parts import AnswerPart
from zoo_server.turn import call_id

Event = tuple[str, dict[str, Any]]
"""An event's type, and its fields."""
MESSAGE, REASONING, CALL = "message", "reasoning", "function_call"
OF_PART = {"content": MESSAGE, "reasoning": REASONING}


class OutputItems:
    """The items of one response.

    Attributes:
        items: as they are so far.
    """

    def __init__(self) -> None:
        self.items: list[dict[str, Any]] = []
        self._call = -1
        self._open = False

    def add(self, part: AnswerPart) -> list[Event]:
        """Take a part; return the events that tell of it."""
        if part.kind == "call":
            events = [*self._end()]
            item = {"type": CALL, "id": _id("fc"), "call_id": call_id(), "name": part.text, "arguments": ""}
            self._call = part.call
            return events + list(self._begin(item))
        if part.kind == "arguments":
            self._last["arguments"] += part.text
            return [("response.function_call_arguments.delta", {**self._where, "delta": part.text})]
        events = []
        kind = OF_PART[part.kind]
        if not self._open or self._last["type"] != kind:
            events += [*self._end(), *self._begin(_new(kind)), *self._begin_content(kind)]
        self._last["content"][0]["text"] += part.text
        events.append((f"response.{_text_kind(kind)}.delta", {**self._where, "content_index": 0, "delta": part.text}))
        if kind == MESSAGE:
            events[-1][1]["logprobs"] = []
        return events

    def close(self) -> list[Event]:
        """End the last item; an answer without any is an empty message."""
        events: list[Event] = []
        if not self.items:
            events += [*self._begin(_new(MESSAGE)), *self._begin_content(MESSAGE)]
        return events + list(self._end())

    @property
    def reasoning(self) -> str:
        """All thoughts."""
        return "".join(item["content"][0]["text"] for item in self.items if item["type"] == REASONING)

    @property
    def _last(self) -> dict[str, Any]:
        return self.items[-1]

    @property
    def _where(self) -> dict[str, Any]:
        return {"item_id": self._last["id"], "output_index": len(self.items) - 1}

    def _begin(self, item: dict[str, Any]) -> Iterator[Event]:
        item["status"] = "in_progress"
        self.items.append(item)
        self._open = True
        yield "response.output_item.added", {"output_index": len(self.items) - 1, "item": {**item}}

    def _begin_content(self, kind: str) -> Iterator[Event]:
        part: dict[str, Any] = {"type": _text_kind(kind), "text": ""} | (
            {"annotations": [], "logprobs": []} if kind == MESSAGE else {}
        )
        self._last["content"].append(part)
        yield "response.content_part.added", {**self._where, "content_index": 0, "part": {**part}}

    def _end(self) -> Iterator[Event]:
        if not self._open:
            return
        item, self._open = self._last, False
        item["status"] = "completed"
        if item["type"] == CALL:
            said = {"arguments": item["arguments"], "name": item["name"]}
            yield "response.function_call_arguments.done", {**self._where, **said}
        else:
            kind, part = _text_kind(item["type"]), item["content"][0]
            more: dict[str, Any] = {"logprobs": []} if item["type"] == MESSAGE else {}
            yield f"response.{kind}.done", {**self._where, "content_index": 0, "text": part["text"], **more}
            yield "response.content_part.done", {**self._where, "content_index": 0, "part": {**part}}
        yield "response.output_item.done", {"output_index": len(self.items) - 1, "item": {**item}}


def _new(kind: str) -> dict[str, Any]:
    if kind == MESSAGE:
        return {"type": MESSAGE, "id": _id("msg"), "role": "assistant", "content": []}
    return {"type": REASONING, "id": _id("rs"), "summary": [], "content": []}


def _text_kind(kind: str) -> str:
    return "output_text" if kind == MESSAGE else "reasoning_text"


def _id(prefix: str) -> str:
    return f"{prefix}_{uuid.uuid4().hex}"
