"""How the two kinds of completions differ: what they are asked, and how their answers are written."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
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

    def __init__(self, body: Body) -> None:
        self.body = body

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

    @abstractmethod
    def encode(self, tokens: TokenTable, limit: int) -> list[list[int]]:
        """Turn the prompts into ids; runs in a thread of its own."""

    @abstractmethod
    def choice(self, index: int, generation: Generation, logprobs: list[Any], tokens: TokenTable) -> dict[str, Any]:
        """Write a finished choice."""

    @abstractmethod
    def delta(self, delta: Delta, tokens: TokenTable) -> dict[str, Any]:
        """Write what came of a choice, as part of a chunk."""

    @abstractmethod
    def text(self) -> Any:
        """What was asked, for a log that may hold prompts."""
