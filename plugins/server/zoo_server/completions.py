"""``/v1/completions``: a prompt goes on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from zoo.engine.generation import Generation
from zoo.engine.logprobs import TokenLogprob
from zoo_server.dialect import ChoiceDialect
from zoo_server.errors import ApiError
from zoo_server.flow import Delta
from zoo_server.logprobs import Offsets, completion_logprobs
from zoo_server.pool import Running
from zoo_server.schemas import CompletionRequest
from zoo_server.tokens import TokenTable

DEFAULT_TOKENS = 16
"""Of an answer where ``max_tokens`` is not given, as OpenAI's."""


class Completion(ChoiceDialect):
    """A request for completions of one or more prompts."""

    prefix, whole_kind, part_kind = "cmpl", "text_completion", "text_completion"

    def __init__(self, body: CompletionRequest) -> None:
        super().__init__(body)
        self._asked = body
        self._prompts = body.prompts()
        self._echoes: list[str] = []
        self._offsets: dict[int, Offsets] = {}
        if not self._prompts:
            raise ApiError(400, "prompt: the list is empty", code="invalid_value", param="prompt")

    @property
    def prompts(self) -> int:
        return len(self._prompts)

    @property
    def max_tokens(self) -> int | None:
        return DEFAULT_TOKENS if self._asked.max_tokens is None else self._asked.max_tokens

    @property
    def logprobs(self) -> int | None:
        return self._asked.logprobs

    @property
    def prompt_logprobs(self) -> int | None:
        return self._asked.logprobs if self._asked.echo else None

    @property
    def end_logprob(self) -> bool:
        return self._asked.logprobs is not None  # OpenAI's are so; who scores prompts relies on a token after them

    def encode(self, running: Running, limit: int) -> list[list[int]]:
        tokens = running.tokens
        ids = [tokens.encode(prompt, limit) for prompt in self._prompts]
        if self._asked.echo:
            self._echoes = [prompt if isinstance(prompt, str) else tokens.decode(prompt) for prompt in self._prompts]
        return ids

    def choice(
        self, index: int, generation: Generation, logprobs: list[TokenLogprob], tokens: TokenTable
    ) -> dict[str, Any]:
        echo = self._echo(index)
        return {
            "index": index,
            "text": echo + generation.text,
            "logprobs": self._write(index, logprobs, tokens, generation),
            "finish_reason": generation.finish_reason,
        }

    def parts_of(self, delta: Delta, generation: Generation, tokens: TokenTable) -> Iterator[dict[str, Any]]:
        first = delta.index not in self.begun
        if delta.text or delta.logprobs or (first and delta.ticket is not None):
            yield {
                "index": delta.index,
                "text": (self._echo(delta.index) if first else "") + delta.text,
                "logprobs": self._write(delta.index, delta.logprobs, tokens, generation),
                "finish_reason": None,
            }

    def end_of(self, index: int, generation: Generation) -> dict[str, Any]:
        return {"index": index, "text": "", "logprobs": None, "finish_reason": generation.finish_reason}

    def _echo(self, index: int) -> str:
        return self._echoes[index // self._asked.choices] if self._echoes else ""

    def _write(
        self, index: int, logprobs: list[TokenLogprob], tokens: TokenTable, generation: Generation
    ) -> dict[str, Any] | None:
        """Write log probabilities: with the first of an answer those of the prompt, where that is repeated."""
        if self._asked.logprobs is None:
            return None
        if index in self._offsets:
            return completion_logprobs(logprobs, self._offsets[index], tokens) if logprobs else None
        prompt = generation.prompt_ids if self._asked.echo else []
        offsets = Offsets(self._echo(index), b"".join(tokens.shown(token) for token in prompt))
        self._offsets[index] = offsets
        if not prompt:
            return completion_logprobs(logprobs, offsets, tokens)
        return completion_logprobs([*generation.prompt_logprobs, *logprobs], offsets, tokens, first=prompt[0])

    def text(self) -> Any:
        return self._prompts
