"""What opens a package and answers. A target names its engines; whoever uses one asks what it can."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, Protocol, Unpack

from zoo.errors import ZooError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from zoo.embedding.results import Embeddings, Ranked
    from zoo.engine.generation import Generation, Piece
    from zoo.engine.options import AnswerOptions
    from zoo.engine.seat import SchedulerStats
    from zoo.engine.text import Tokenizer
    from zoo.engine.ticket import Ticket
    from zoo.package.chat_defaults import ChatDefaults
    from zoo.package.folder import Package
    from zoo.structured.guide import Guide

OWN_ENGINE = "ort"
"""The engine of this project, which opens what the target ``ort`` builds."""

Ability = Literal[
    "text", "chat", "batches", "logits", "steps", "logprobs", "lookup", "draft", "int8_kv", "forms", "tools",
    "embeddings", "scores",
]  # fmt: skip
"""What an engine may be able to do.

- ``text``: takes and gives text, not only token ids; ``chat``: has the model's chat template.
- ``batches``: answers many requests at once (see ``Batching``).
- ``logits``: gives the logits of a text (see ``LogitEngine``).
- ``steps``: lets its caller compute steps over KV caches of its own.
- ``logprobs``: names log probabilities of the tokens of an answer.
- ``lookup``: guesses tokens from the text so far; ``draft``: by a smaller model.
- ``int8_kv``: keeps keys and values in 8 bits where that is asked for.
- ``forms``: follows a schema, an expression or a grammar.
- ``tools``: calls functions by the model's template.
- ``embeddings``: turns texts into vectors (``EmbeddingEngine``); ``scores``: ranks documents (``RankingEngine``).
"""

_LACKS: Mapping[Ability, str] = {
    "text": "takes token ids only",
    "chat": "has no chat template of this model",
    "batches": "answers one request at a time",
    "logits": "gives no logits",
    "steps": "computes no steps for others",
    "logprobs": "gives no log probabilities",
    "lookup": "does not guess tokens from the text so far",
    "draft": "takes no draft model",
    "int8_kv": "does not keep keys and values in 8 bits",
    "forms": "follows no schema or grammar",
    "tools": "calls no tools",
    "embeddings": "embeds no texts",
    "scores": "ranks no documents",
}


class Answer(Protocol):
    """The pieces of an answer, one by one."""

    generation: Generation
    """All that came so far."""

    def __iter__(self) -> Iterator[Piece]: ...

    def __next__(self) -> Piece: ...

    def close(self) -> None:
        """Leave the answer as it is; its ``finish_reason`` becomes ``interrupt``."""
        ...


class Engine(Protocol):
    """An opened package, ready to answer. One conversation at a time; not for several threads at once.

    A class that names this protocol as its base gets ``generate`` and ``close``.
    """

    name: str
    """The engine's name, as ``--engine`` takes it."""
    package: Package
    abilities: frozenset[Ability]
    """What it can; nobody assumes more."""
    stop_token_ids: frozenset[int]
    """The model's own ends of a text."""
    special_ids: frozenset[int]
    """Tokens that are not part of any text; empty where nobody knows."""

    context_length: int
    """Tokens that prompt and answer may have together."""
    vocab_size: int
    """Token ids are below this."""
    load_seconds: float
    """How long it took to open."""

    @classmethod
    def open(cls, package: Package, *, threads: int | None = None) -> Engine:
        """Open a package.

        Args:
            package: the folder and its manifest, checked.
            threads: workers; by default what the engine finds best.

        Raises:
            ZooError: the engine is not installed (with the command that installs it), or does not open the package.
        """
        ...

    def settings(self) -> Mapping[str, Any]:
        """Tell what a measurement states beside its figures, as plain values: threads, devices, kernels."""
        return {}

    def encode(self, text: str) -> list[int]:
        """Turn a prompt into ids, as the model was trained to see it.

        Raises:
            ZooError: it takes no text.
        """
        ...

    def encode_chat(self, messages: Sequence[Mapping[str, Any]]) -> list[int]:
        """Turn a conversation into the ids of a prompt.

        Raises:
            ZooError: the model has no chat template, or it refuses the conversation.
        """
        ...

    def stream(
        self,
        prompt: str | Sequence[int] | None = None,
        *,
        messages: Sequence[Mapping[str, Any]] | None = None,
        continued: bool = False,
        **options: Unpack[AnswerOptions],
    ) -> Answer:
        """Answer a prompt piece by piece.

        Args:
            prompt: text, or token ids.
            messages: a conversation instead, ``[{"role": "user", "content": "…"}]``.
            continued: what the last request computed of this prompt's beginning may be taken over.
            options: see ``AnswerOptions``; ``zoo.read_options`` makes ``Limits`` and ``Sampling`` of them.

        Raises:
            UsageError: a value out of range.
            ZooError: the prompt does not fit the context, or an option that the engine does not have.
        """
        ...

    def generate(
        self,
        prompt: str | Sequence[int] | None = None,
        *,
        messages: Sequence[Mapping[str, Any]] | None = None,
        **options: Unpack[AnswerOptions],
    ) -> Generation:
        """Answer a prompt, and return the answer when it is finished.

        Args:
            prompt: text, or token ids.
            messages: a conversation instead, ``[{"role": "user", "content": "…"}]``.
            options: see ``AnswerOptions``: ``max_new_tokens``, ``temperature``, ``seed``, ``stop`` …

        Raises:
            UsageError: a value out of range, or a form that cannot be followed.
            ZooError: the prompt does not fit the context.
        """
        answer = self.stream(prompt, messages=messages, **options)
        for _ in answer:
            pass
        return answer.generation

    def close(self) -> None:
        """Let go of what it holds; it answers no more."""


class LogitEngine(Engine, Protocol):
    """An engine with ``logits``."""

    def logits(self, token_ids: Sequence[int], positions: int | Literal["all"] = "all") -> NDArray[np.float32]:
        """Compute the logits of a text's last positions, float32 (positions, vocab): one row a token."""
        ...


class EmbeddingEngine(Engine, Protocol):
    """An engine with ``embeddings``."""

    def embed(
        self,
        texts: str | Sequence[str],
        *,
        prompt: str | None = None,
        dimensions: int | None = None,
        truncate: bool = False,
    ) -> Embeddings:
        """Turn texts into vectors.

        Args:
            prompt: the name of what is put before each text; None for the model's usual one, "" for nothing.
            dimensions: how many of the first values are kept.
            truncate: cut what is longer than the model takes; otherwise that is an error.
        """
        ...


class RankingEngine(Engine, Protocol):
    """An engine with ``scores``."""

    def rank(self, query: str, documents: Sequence[str], *, truncate: bool = False) -> list[Ranked]:
        """Score documents beside a query, the best first; ``truncate`` as in ``embed``."""
        ...


class RequestQueue(Protocol):
    """Requests of many senders over one engine; its methods are for any thread."""

    context: int
    """Tokens that one request's prompt and answer may have together, here."""

    def submit(self, *args: Any, **wishes: Any) -> Ticket:
        """Queue a request: ``submit(prompt_ids, limits, sampling, *, on_piece, on_done, **wishes)``.

        ``on_piece`` is called with each piece and ``on_done`` at the end, in a thread of the engine's; they must not
        block. Further keywords are those of ``zoo.engine.Scheduler.submit`` that the engine's abilities promise.

        Raises:
            QueueFull: as many wait as may.
            ZooError: the prompt does not fit, or no more requests are taken.
        """
        ...

    def stats(self) -> SchedulerStats:
        """Count what runs and what was done."""
        ...

    def close(self, *, drain: bool = False) -> None:
        """Stop; with ``drain`` let what was submitted finish first."""
        ...


class Batching(Engine, Protocol):
    """An engine with ``batches``."""

    def queue(
        self,
        *,
        slots: int,
        waiting: int | None = None,
        prefix_cache_bytes: int | None = None,
        cache_bytes: int | None = None,
        lookup: bool = False,
    ) -> RequestQueue:
        """Begin to take requests.

        Args:
            slots: how many run at once.
            waiting: how many more may wait; None for any number.
            prefix_cache_bytes: memory for texts computed before; 0 for none.
            cache_bytes: memory that KV caches may grow to.
            lookup: guess tokens from the text so far.

        Raises:
            ZooError: there is no memory for so many.
        """
        ...


class ServedEngine(Batching, Protocol):
    """What the server needs of an engine with ``batches``: the tokenizer and the template, beside the queue."""

    tokenizer: Tokenizer | None
    """None for a package that takes token ids only."""
    chat_defaults: ChatDefaults
    """How a conversation is sampled where nothing else is asked for."""
    chat_templates: dict[str, str]
    """By name; empty for a base model."""

    @property
    def chat_template(self) -> str | None:
        """The template of a conversation without tools; None for a base model."""
        ...

    @property
    def longest_prompt(self) -> int:
        """Tokens that a prompt may have."""
        ...

    @property
    def guide(self) -> Guide:
        """What makes constraints over the vocabulary, for an engine with ``forms``."""
        ...

    def encode_chat(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        goes_on: bool = False,
        tools: Sequence[Mapping[str, Any]] | None = None,
        variables: Mapping[str, Any] | None = None,
    ) -> list[int]:
        """Turn a conversation into the ids of a prompt; the keywords are those of ``chat_text``."""
        ...

    def chat_text(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        goes_on: bool = False,
        tools: Sequence[Mapping[str, Any]] | None = None,
        variables: Mapping[str, Any] | None = None,
        worker: Any = None,
    ) -> str:
        """Write a conversation as the prompt of its next turn.

        Args:
            messages: each with ``role`` and ``content``.
            goes_on: the answer goes on with the last message instead of following it.
            tools: JSON Schemas of the functions that the model may call.
            variables: further names that the template knows.
            worker: the process that renders; by default this process's own.
        """
        ...


def require(engine: Engine, ability: Ability, asked: str) -> None:
    """Refuse what an engine cannot do.

    Args:
        asked: what needs it, as it was asked for.

    Raises:
        ZooError: in one line.
    """
    if ability not in engine.abilities:
        raise ZooError(f"{asked}: the engine {engine.name!r} {_LACKS[ability]}")
