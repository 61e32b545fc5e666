"""``/v1/responses``: the same turns in OpenAI's newer protocol; nothing is kept between two requests."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from zoo.contracts.constraint import Constraint
from zoo.conversation.reader import AnswerReader
from zoo.engine.generation import Generation
from zoo.engine.logprobs import TokenLogprob
from zoo.engine.text import Tokenizer
from zoo_server.dialect import Dialect, to_json
from zoo_server.errors import ApiError
from zoo_server.flow import Delta
from zoo_server.output import OutputItems
from zoo_server.pool import Running
from zoo_server.responses_request import ResponsesRequest
from zoo_server.tokens import TokenTable
from zoo_server.turn import Turn


class Responses(Dialect):
    """A request for a response."""

    prefix = "resp"
    prompts = 1
    logprobs = None
    converses = True

    def __init__(self, asked: ResponsesRequest) -> None:
        body = asked.as_chat()
        super().__init__(body)
        self.id = self.id.replace("-", "_", 1)
        self._asked, self._turn = asked, Turn(body)
        self._items = OutputItems()
        self._reader: AnswerReader | None = None
        self._number = 0
        """Of the next event."""
        self._reason: str | None = None
        self._tokenizer: Tokenizer | None = None

    @property
    def max_tokens(self) -> int | None:
        return self._asked.max_output_tokens

    @property
    def visible(self) -> frozenset[int]:
        return self._turn.visible

    def encode(self, running: Running, limit: int) -> list[list[int]]:
        self._tokenizer = running.engine.tokenizer
        return [self._turn.encode(running, limit)]

    def constrain(self, running: Running, prompts: list[list[int]]) -> Constraint | None:
        return self._turn.constrain(running, self.body.structure())

    def whole(
        self, answers: Sequence[tuple[Generation, list[TokenLogprob]]], tokens: TokenTable, usage: dict[str, Any]
    ) -> dict[str, Any]:
        ((generation, _),) = answers
        reader = self._turn.reader()
        for part in self._turn.kept(reader.add(generation.text) + reader.rest()):
            self._items.add(part)
        self._items.close()
        return self._response(_status(generation.finish_reason), usage)

    def opening(self) -> bytes:
        begun = self._response("in_progress", None)
        return b"".join(self._event(f"response.{kind}", {"response": begun}) for kind in ("created", "in_progress"))

    def events(self, delta: Delta, generation: Generation, tokens: TokenTable) -> Iterator[bytes]:
        if self._reader is None:
            self._reader = self._turn.reader()
        parts = self._reader.add(delta.text) + (self._reader.rest() if delta.ticket is not None else [])
        for part in self._turn.kept(parts):
            for kind, fields in self._items.add(part):
                yield self._event(kind, fields)
        if delta.ticket is not None:
            self._reason = generation.finish_reason
            for kind, fields in self._items.close():
                yield self._event(kind, fields)

    def closing(self, usage: dict[str, Any]) -> bytes:
        status = _status(self._reason)
        return self._event(f"response.{status}", {"response": self._response(status, usage)})

    def failing(self, error: ApiError) -> bytes:
        said = {"code": error.code or error.kind, "message": error.message}
        failed = self._response("failed", None) | {"error": said}
        return self._event("error", {**said, "param": error.param}) + self._event(
            "response.failed", {"response": failed}
        )

    def text(self) -> Any:
        return self._turn.messages

    def _event(self, kind: str, fields: dict[str, Any]) -> bytes:
        event = {"type": kind, "sequence_number": self._number, **fields}
        self._number += 1
        return b"event: " + kind.encode() + b"\ndata: " + to_json(event) + b"\n\n"

    def _usage(self, usage: dict[str, Any]) -> dict[str, Any]:
        thoughts = self._items.reasoning
        count = len(self._tokenizer.encode(thoughts, special=False)) if thoughts and self._tokenizer is not None else 0
        return {
            "input_tokens": usage["prompt_tokens"],
            "input_tokens_details": usage["prompt_tokens_details"],
            "output_tokens": usage["completion_tokens"],
            "output_tokens_details": {"reasoning_tokens": count},
            "total_tokens": usage["total_tokens"],
        }

    def _response(self, status: str, usage: dict[str, Any] | None) -> dict[str, Any]:
        asked = self._asked
        return {
            "id": self.id,
            "object": "response",
            "created_at": self.created,
            "status": status,
            "background": False,
            "error": None,
            "incomplete_details": {"reason": "max_output_tokens"} if status == "incomplete" else None,
            "instructions": asked.instructions,
            "max_output_tokens": asked.max_output_tokens,
            "model": asked.model,
            "output": self._items.items,
            "parallel_tool_calls": asked.parallel_tool_calls is not False,
            "previous_response_id": None,
            "reasoning": {"effort": asked.effort, "summary": None},
            "store": False,
            "temperature": asked.temperature,
            "text": {"format": asked.format or {"type": "text"}},
            "tool_choice": asked.tool_choice or "auto",
            "tools": asked.tools or [],
            "top_p": asked.top_p,
            "truncation": "disabled",
            "usage": None if usage is None else self._usage(usage),
            "user": None,
            "metadata": asked.metadata or {},
        }


def _status(reason: str | None) -> str:
    return "incomplete" if reason == "length" else "completed"
