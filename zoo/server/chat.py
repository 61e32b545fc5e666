"""``/v1/chat/completions``: the next turn of a conversation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zoo.server.dialect import Dialect
from zoo.server.schemas import ChatRequest

if TYPE_CHECKING:
    from zoo.engine.generation import Generation
    from zoo.server.flow import Delta
    from zoo.server.tokens import TokenTable


class Chat(Dialect):
    """A request for the assistant's next turn."""

    prefix, whole, part = "chatcmpl", "chat.completion", "chat.completion.chunk"
    prompts = 1

    def __init__(self, body: ChatRequest) -> None:
        super().__init__(body)
        self._asked = body
        self._messages = [one.plain() for one in body.messages]
        self._begun: set[int] = set()

    @property
    def max_tokens(self) -> int | None:
        return self._asked.max_completion_tokens or self._asked.max_tokens

    @property
    def logprobs(self) -> int | None:
        return (self._asked.top_logprobs or 0) if self._asked.logprobs else None

    def encode(self, tokens: TokenTable, limit: int) -> list[list[int]]:
        return [tokens.encode_chat(self._messages, limit)]

    def choice(self, index: int, generation: Generation, logprobs: list[Any], tokens: TokenTable) -> dict[str, Any]:
        return {
            "index": index,
            "message": {"role": "assistant", "content": generation.text, "refusal": None},
            "logprobs": self._write(logprobs, tokens),
            "finish_reason": generation.finish_reason,
        }

    def delta(self, delta: Delta, tokens: TokenTable) -> dict[str, Any]:
        content: dict[str, Any] = {}
        if delta.index not in self._begun:
            self._begun.add(delta.index)
            content = {"role": "assistant", "content": ""}
        if delta.text:
            content["content"] = delta.text
        return {
            "index": delta.index,
            "delta": content,
            "logprobs": self._write(delta.logprobs, tokens) if delta.logprobs else None,
            "finish_reason": delta.ticket.generation.finish_reason if delta.ticket is not None else None,
        }

    def _write(self, logprobs: list[Any], tokens: TokenTable) -> dict[str, Any] | None:
        if not self._asked.logprobs:
            return None
        return {
            "content": [
                _token(one.token_id, one.logprob, tokens)
                | {"top_logprobs": [_token(token, value, tokens) for token, value in one.top]}
                for one in logprobs
            ],
            "refusal": None,
        }

    def text(self) -> Any:
        return self._messages


def _token(token: int, logprob: float, tokens: TokenTable) -> dict[str, Any]:
    text, raw = tokens.text(token)
    return {"token": text, "logprob": logprob, "bytes": raw}
