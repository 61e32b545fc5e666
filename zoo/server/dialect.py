"""How the two kinds of completions differ: what they are asked, and how their answers are written."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from zoo.errors import UsageError, ZooError
from zoo.server.errors import ApiError

if TYPE_CHECKING:
    from zoo.contracts.constraint import Constraint
    from zoo.engine import Engine
    from zoo.engine.generation import Generation
    from zoo.server.flow import Delta
    from zoo.server.schemas import Body
    from zoo.server.tokens import TokenTable


class Dialect(ABC):
    """One request, in the words of its endpoint."""

    prefix: str
    """Of the answer's id."""
    whole: str
    """``object`` of an answer in one piece."""
    part: str
    """``object`` of a chunk."""
    converses: bool = False
    """It asks for the next turn of a conversation, which the model's authors may want sampled in their way."""

    def __init__(self, body: Body) -> None:
        self.body = body
        self.begun: set[int] = set()
        """Choices of which something was sent."""

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

    @abstractmethod
    def encode(self, tokens: TokenTable, limit: int) -> list[list[int]]:
        """Turn the prompts into ids; runs in a thread of its own."""

    def constrain(self, engine: Engine, prompts: list[list[int]]) -> Constraint | None:
        """Say what the answers may be; runs in a thread of its own.

        Raises:
            ApiError: nothing can follow what is asked for.
        """
        asked = self.body.structure()
        if asked is None:
            return None
        field, structure = asked
        try:
            return engine.guide.follow(structure)
        except UsageError as error:
            raise ApiError(400, f"{field}: {error}", code="invalid_structure", param=field) from None
        except ZooError as error:  # no tokenizer, or no library
            raise ApiError(400, f"{field}: {error}", code="unsupported_parameter", param=field) from None

    @abstractmethod
    def choice(self, index: int, generation: Generation, logprobs: list[Any], tokens: TokenTable) -> dict[str, Any]:
        """Write a finished choice."""

    def deltas(self, delta: Delta, generation: Generation, tokens: TokenTable) -> Iterator[dict[str, Any]]:
        """Write what came of a choice, each part for a chunk of its own: text never comes with its end."""
        ended = delta.ticket is not None
        if delta.text or delta.logprobs or (ended and delta.index not in self.begun):
            yield self.part_of(delta, generation, tokens)
            self.begun.add(delta.index)
        if ended:
            yield self.end_of(delta)

    @abstractmethod
    def part_of(self, delta: Delta, generation: Generation, tokens: TokenTable) -> dict[str, Any]:
        """Write text that came, or that nothing did where the answer is empty."""

    @abstractmethod
    def end_of(self, delta: Delta) -> dict[str, Any]:
        """Write why a choice ended."""

    @abstractmethod
    def text(self) -> Any:
        """What was asked, for a log that may hold prompts."""
