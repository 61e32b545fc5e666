"""How the endpoints differ: what they are asked, and how their answers are written."""

from __future__ import annotations

import json
import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from zoo.errors import UsageError, ZooError
from zoo_server.errors import ApiError
from zoo_server.flow import Delta
from zoo_server.tokens import TokenTable

if TYPE_CHECKING:
    from zoo.contracts.constraint import Constraint
    from zoo.engine.generation import Generation
    from zoo.engine.logprobs import TokenLogprob
    from zoo_server.pool import Running
    from zoo_server.schemas import Body


class Dialect(ABC):
    """One request, in the words of its endpoint."""

    prefix: str
    """Of the answer's id."""
    converses: bool = False
    """It asks for the next turn of a conversation, which the model's authors may want sampled in their way."""

    def __init__(self, body: Body) -> None:
        self.body = body
        self.id = f"{self.prefix}-{uuid.uuid4().hex}"
        self.created = int(time.time())

    @property
    @abstractmethod
    def prompts(self) -> int:
        """How many prompts there are."""

    @property
    @abstractmethod
    def max_tokens(self) -> int | None:
        """How many tokens an answer may have; None for as many as fit."""

    @property
    @abstractmethod
    def logprobs(self) -> int | None:
        """How many alternatives are wanted for each token; None for no log probabilities."""

    @property
    def prompt_logprobs(self) -> int | None:
        """The same for the prompt's tokens."""
        return None

    @property
    def end_logprob(self) -> bool:
        """Whether the token that ends an answer has a log probability too."""
        return False

    @property
    def visible(self) -> frozenset[int]:
        """Special tokens that are part of the text; known once the prompts are encoded."""
        return frozenset()

    @abstractmethod
    def encode(self, running: Running, limit: int) -> list[list[int]]:
        """Turn the prompts into ids of at most ``limit`` tokens; runs in a thread of its own."""

    def constrain(self, running: Running, prompts: list[list[int]]) -> Constraint | None:
        """Say what the answers may be; runs in a thread of its own.

        Raises:
            ApiError: nothing can follow what is asked for.
        """
        asked = self.body.structure()
        if asked is None:
            return None
        with structure_errors(asked[0]):
            return running.engine.guide.follow(asked[1])

    @abstractmethod
    def whole(
        self, answers: Sequence[tuple[Generation, list[TokenLogprob]]], tokens: TokenTable, usage: dict[str, Any]
    ) -> dict[str, Any]:
        """Write all finished choices as one body."""

    def opening(self) -> bytes:
        """Write what a stream begins with."""
        return b""

    @abstractmethod
    def events(self, delta: Delta, generation: Generation, tokens: TokenTable) -> Iterator[bytes]:
        """Write what came of a choice."""

    @abstractmethod
    def closing(self, usage: dict[str, Any]) -> bytes:
        """Write what a stream ends with."""

    def failing(self, error: ApiError) -> bytes:
        """Write an error that ends a stream."""
        return data(error.body()) + DONE

    @abstractmethod
    def text(self) -> Any:
        """What was asked, for a log that may hold prompts."""


class ChoiceDialect(Dialect):
    """An endpoint whose answers are a list of choices, and whose streams are chunks of such lists."""

    whole_kind: str
    """``object`` of an answer in one piece."""
    part_kind: str
    """``object`` of a chunk."""

    def __init__(self, body: Body) -> None:
        super().__init__(body)
        self.begun: set[int] = set()
        """Choices of which something was sent."""

    def whole(
        self, answers: Sequence[tuple[Generation, list[TokenLogprob]]], tokens: TokenTable, usage: dict[str, Any]
    ) -> dict[str, Any]:
        choices = [self.choice(at, generation, logs, tokens) for at, (generation, logs) in enumerate(answers)]
        return self._head(self.whole_kind) | {"choices": choices, "usage": usage}

    def events(self, delta: Delta, generation: Generation, tokens: TokenTable) -> Iterator[bytes]:
        """Write each part in a chunk of its own: text never comes with its end."""
        for choice in self.parts_of(delta, generation, tokens):
            yield self._chunk([choice])
            self.begun.add(delta.index)
        if delta.ticket is not None:
            yield self._chunk([self.end_of(delta.index, generation)])

    def closing(self, usage: dict[str, Any]) -> bytes:
        return (self._chunk([], usage) if self._with_usage else b"") + DONE

    @property
    def _with_usage(self) -> bool:
        options = self.body.stream_options
        return options is not None and options.include_usage

    def _chunk(self, choices: list[dict[str, Any]], usage: dict[str, Any] | None = None) -> bytes:
        more = {"usage": usage} if self._with_usage else {}
        return data(self._head(self.part_kind) | more | {"choices": choices})

    def _head(self, kind: str) -> dict[str, Any]:
        return {"id": self.id, "object": kind, "created": self.created, "model": self.body.model}

    @abstractmethod
    def choice(
        self, index: int, generation: Generation, logprobs: list[TokenLogprob], tokens: TokenTable
    ) -> dict[str, Any]:
        """Write a finished choice."""

    @abstractmethod
    def parts_of(self, delta: Delta, generation: Generation, tokens: TokenTable) -> Iterator[dict[str, Any]]:
        """Write what came of a choice; of an empty one, once, that it begins."""

    @abstractmethod
    def end_of(self, index: int, generation: Generation) -> dict[str, Any]:
        """Write why a choice ended."""


class structure_errors:
    """Turn the errors of a form that cannot be followed into those of a request.

    Args:
        field: the one that asked for it.
    """

    def __init__(self, field: str) -> None:
        self._field = field

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, ZooError):  # wrong usage, or no tokenizer or no library to follow it with
            code = "invalid_structure" if isinstance(error, UsageError) else "unsupported_parameter"
            raise ApiError(400, f"{self._field}: {error}", code=code, param=self._field) from None


DONE = b"data: [DONE]\n\n"


def to_json(value: Any) -> bytes:
    """Write a value as the protocol does."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")


def data(value: Any) -> bytes:
    """Write an event of a stream."""
    return b"data: " + to_json(value) + b"\n\n"
