"""``/v1/chat/completions``: the next turn of a conversation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zoo.server.dialect import Dialect
from zoo.server.logprobs import chat_logprobs
from zoo.server.schemas import ChatRequest

if TYPE_CHECKING:
    from zoo.engine.generation import Generation
    from zoo.server.flow import Delta
    from zoo.server.tokens import TokenTable


class Chat(Dialect):
    """A request for the assistant's next turn."""

    prefix, whole, part = "chatcmpl", "chat.completion", "chat.completion.chunk"
    prompts = 1
    converses = True

    def __init__(self, body: ChatRequest) -> None:
        super().__init__(body)
        self._asked = body
        self._messages = [message.plain() for message in body.messages]

    @property
    def max_tokens(self) -> int | None:
        return self._asked.max_completion_tokens or self._asked.max_tokens

    @property
    def logprobs(self) -> int | None:
        return (self._asked.top_logprobs or 0) if self._asked.logprobs else None

    def encode(self, tokens: TokenTable, limit: int) -> list[list[int]]:
        return [tokens.encode_chat(self._messages, limit, goes_on=bool(self._asked.continue_final_message))]

    def choice(self, index: int, generation: Generation, logprobs: list[Any], tokens: TokenTable) -> dict[str, Any]:
        return {
            "index": index,
            "message": {"role": "assistant", "content": generation.text, "refusal": None},
            "logprobs": self._write(logprobs, tokens),
            "finish_reason": generation.finish_reason,
        }

    def part_of(self, delta: Delta, generation: Generation, tokens: TokenTable) -> dict[str, Any]:
        first = delta.index not in self.begun
        return {
            "index": delta.index,
            "delta": ({"role": "assistant"} if first else {}) | {"content": delta.text},
            "logprobs": self._write(delta.logprobs, tokens) if delta.logprobs else None,
            "finish_reason": None,
        }

    def end_of(self, delta: Delta) -> dict[str, Any]:
        reason = delta.ticket.generation.finish_reason
        return {"index": delta.index, "delta": {}, "logprobs": None, "finish_reason": reason}

    def _write(self, logprobs: list[Any], tokens: TokenTable) -> dict[str, Any] | None:
        return chat_logprobs(logprobs, tokens) if self._asked.logprobs else None

    def text(self) -> Any:
        return self._messages
