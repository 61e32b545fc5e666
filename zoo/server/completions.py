"""``/v1/completions``: a prompt goes on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zoo.server.dialect import Dialect
from zoo.server.errors import ApiError
from zoo.server.logprobs import Offsets, completion_logprobs
from zoo.server.schemas import CompletionRequest

if TYPE_CHECKING:
    from zoo.engine.generation import Generation
    from zoo.server.flow import Delta
    from zoo.server.tokens import TokenTable

DEFAULT_TOKENS = 16
"""Of an answer where ``max_tokens`` is not given, as OpenAI's."""


class Completion(Dialect):
    """A request for completions of one or more prompts."""

    prefix, whole, part = "cmpl", "text_completion", "text_completion"

    def __init__(self, body: CompletionRequest) -> None:
        super().__init__(body)
        self._asked = body
        self._prompts = body.prompts()
        self._echoes: list[str] = []
        self._offsets: dict[int, Offsets] = {}
        if body.echo and body.logprobs is not None:
            message = "log probabilities of the prompt (echo with logprobs) are not supported"
            raise ApiError(400, message, code="unsupported_parameter", param="echo")
        if not self._prompts:
            raise ApiError(400, "prompt: an empty list asks for nothing", code="invalid_value", param="prompt")

    @property
    def prompts(self) -> int:
        return len(self._prompts)

    @property
    def max_tokens(self) -> int | None:
        return self._asked.max_tokens or DEFAULT_TOKENS

    @property
    def logprobs(self) -> int | None:
        return self._asked.logprobs

    def encode(self, tokens: TokenTable, limit: int) -> list[list[int]]:
        ids = [tokens.encode(prompt, limit) for prompt in self._prompts]
        if self._asked.echo:
            self._echoes = [prompt if isinstance(prompt, str) else tokens.decode(prompt) for prompt in self._prompts]
        return ids

    def choice(self, index: int, generation: Generation, logprobs: list[Any], tokens: TokenTable) -> dict[str, Any]:
        echo = self._echo(index)
        return {
            "index": index,
            "text": echo + generation.text,
            "logprobs": self._write(index, logprobs, tokens),
            "finish_reason": generation.finish_reason,
        }

    def part_of(self, delta: Delta, tokens: TokenTable) -> dict[str, Any]:
        echo = "" if delta.index in self.begun else self._echo(delta.index)
        return {
            "index": delta.index,
            "text": echo + delta.text,
            "logprobs": self._write(delta.index, delta.logprobs, tokens) if delta.logprobs else None,
            "finish_reason": None,
        }

    def end_of(self, delta: Delta) -> dict[str, Any]:
        reason = delta.ticket.generation.finish_reason
        return {"index": delta.index, "text": "", "logprobs": None, "finish_reason": reason}

    def _echo(self, index: int) -> str:
        return self._echoes[index // self._asked.choices] if self._echoes else ""

    def _write(self, index: int, logprobs: list[Any], tokens: TokenTable) -> dict[str, Any] | None:
        if self._asked.logprobs is None:
            return None
        return completion_logprobs(logprobs, self._offsets.setdefault(index, Offsets()), tokens)

    def text(self) -> Any:
        return self._prompts
