"""``/v1/chat/completions``: the next turn of a conversation."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from zoo.contracts.constraint import Constraint
from zoo.conversation.parts import AnswerPart
from zoo.conversation.reader import AnswerReader
from zoo.engine.generation import Generation
from zoo.engine.logprobs import TokenLogprob
from zoo_server.dialect import ChoiceDialect
from zoo_server.flow import Delta
from zoo_server.logprobs import chat_logprobs
from zoo_server.pool import Running
from zoo_server.schemas import ChatRequest
from zoo_server.tokens import TokenTable
from zoo_server.turn import Turn, call_id


class Chat(ChoiceDialect):
    """A request for the assistant's next turn."""

    prefix, whole_kind, part_kind = "chatcmpl", "chat.completion", "chat.completion.chunk"
    prompts = 1
    converses = True

    def __init__(self, body: ChatRequest) -> None:
        super().__init__(body)
        self._asked = body
        self._turn = Turn(body)
        self._readers: dict[int, AnswerReader] = {}

    @property
    def max_tokens(self) -> int | None:
        return self._asked.max_completion_tokens or self._asked.max_tokens

    @property
    def logprobs(self) -> int | None:
        return (self._asked.top_logprobs or 0) if self._asked.logprobs else None

    @property
    def visible(self) -> frozenset[int]:
        return self._turn.visible

    def encode(self, running: Running, limit: int) -> list[list[int]]:
        return [self._turn.encode(running, limit)]

    def constrain(self, running: Running, prompts: list[list[int]]) -> Constraint | None:
        return self._turn.constrain(running, self.body.structure())

    def choice(
        self, index: int, generation: Generation, logprobs: list[TokenLogprob], tokens: TokenTable
    ) -> dict[str, Any]:
        message = read_message(self._turn, generation.text)
        return {
            "index": index,
            "message": message,
            "logprobs": self._write(logprobs, tokens),
            "finish_reason": finish_reason(generation, "tool_calls" in message),
        }

    def parts_of(self, delta: Delta, generation: Generation, tokens: TokenTable) -> Iterator[dict[str, Any]]:
        reader = self._readers.setdefault(delta.index, self._turn.reader())
        parts = self._turn.kept(reader.add(delta.text))
        if delta.ticket is not None:
            parts += self._turn.kept(reader.rest())
        logprobs = self._write(delta.logprobs, tokens) if delta.logprobs else None
        written = [write_part(part) for part in parts]
        if delta.index not in self.begun and (logprobs or written or delta.ticket is not None):
            written = [{"role": "assistant", "content": ""} | (written[0] if written else {}), *written[1:]]
        elif logprobs and not written:
            written = [{"content": ""}]
        for at, content in enumerate(written):
            own = logprobs if at == 0 else None
            yield {"index": delta.index, "delta": content, "logprobs": own, "finish_reason": None}

    def end_of(self, index: int, generation: Generation) -> dict[str, Any]:
        reason = finish_reason(generation, self._readers[index].called)
        return {"index": index, "delta": {}, "logprobs": None, "finish_reason": reason}

    def _write(self, logprobs: list[TokenLogprob], tokens: TokenTable) -> dict[str, Any] | None:
        return chat_logprobs(logprobs, tokens) if self._asked.logprobs else None

    def text(self) -> Any:
        return self._turn.messages


def read_message(turn: Turn, text: str) -> dict[str, Any]:
    """Write a finished answer as a message."""
    reader = turn.reader()
    parts = turn.kept(reader.add(text) + reader.rest())
    content = "".join(part.text for part in parts if part.kind == "content")
    reasoning = "".join(part.text for part in parts if part.kind == "reasoning")
    calls: dict[int, dict[str, Any]] = {}
    for part in parts:
        if part.kind == "call":
            calls[part.call] = write_call(part.text, "")
        elif part.kind == "arguments":
            calls[part.call]["function"]["arguments"] += part.text
    message: dict[str, Any] = {"role": "assistant", "content": content or None if calls else content, "refusal": None}
    if reasoning:
        message["reasoning_content"] = reasoning
    if calls:
        message["tool_calls"] = list(calls.values())
    return message


def write_part(part: AnswerPart) -> dict[str, Any]:
    """Write a piece of an answer as a delta."""
    if part.kind == "content":
        return {"content": part.text}
    if part.kind == "reasoning":
        return {"reasoning_content": part.text}
    if part.kind == "call":
        return {"tool_calls": [{"index": part.call} | write_call(part.text, "")]}
    return {"tool_calls": [{"index": part.call, "function": {"arguments": part.text}}]}


def write_call(name: str, arguments: str) -> dict[str, Any]:
    """Write a call under an id of its own."""
    return {"id": call_id(), "type": "function", "function": {"name": name, "arguments": arguments}}


def finish_reason(generation: Generation, called: bool) -> str | None:
    """Say why an answer ended: a call that is complete ends it by itself."""
    return "tool_calls" if called and generation.finish_reason == "stop" else generation.finish_reason
