"""Whoever computes the harness' requests: this process over an opened package, or others that it asks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from typing import Any, Protocol, cast

from zoo.contracts import Engine, LogitEngine, require
from zoo.engine import OrtEngine
from zoo.errors import ZooError
from zoo.evaluation.completion import Prompt, complete, cut
from zoo.evaluation.likelihood import Continuation, Likelihood, rate, score

OpenEngine = Callable[[int | None], "Engine"]
"""Opens the package that is scored, with so many threads; it travels to other processes."""


class Scorer(Protocol):
    """Computes requests; the same request has the same answer whatever it is computed with, and by whom."""

    def likelihoods(self, requests: Sequence[Continuation]) -> Iterator[tuple[int, Likelihood]]:
        """Score continuations; yield each index with its score, in any order."""
        ...

    def completions(self, requests: Sequence[Prompt]) -> Iterator[tuple[int, str]]:
        """Complete prompts; yield each index with its text, in any order."""
        ...

    def close(self) -> None:
        """Let go of what it holds."""
        ...


class LocalScorer:
    """Computes in this process.

    An engine that lets its caller compute steps is given them, several at once; of another one each request is asked by
    itself.

    Args:
        opener: opens the package.
        threads: workers; by default what the engine finds best.
        recipe_hash: of the package that is meant, where another may be in its place.

    Raises:
        ZooError: the package cannot be opened, or is another.
    """

    def __init__(self, opener: OpenEngine, *, threads: int | None = None, recipe_hash: str | None = None) -> None:
        self._engine = engine = opener(threads)
        found = engine.package.manifest.recipe_hash
        if recipe_hash is not None and found != recipe_hash:
            raise ZooError(f"{engine.package.path.name} is another build here: recipe {found[:12]}")

    def likelihoods(self, requests: Sequence[Continuation]) -> Iterator[tuple[int, Likelihood]]:
        """Score continuations."""
        if "steps" in self._engine.abilities:
            return score(cast("OrtEngine", self._engine).session, requests)
        require(self._engine, "logits", "a task that is scored by likelihood (--scoring generation is not)")
        return self._one_by_one(cast("LogitEngine", self._engine), requests)

    def _one_by_one(self, engine: LogitEngine, requests: Sequence[Continuation]) -> Iterator[tuple[int, Likelihood]]:
        for index, request in enumerate(requests):
            text = [*request.context, *request.ids]
            yield index, rate([engine.logits(text[:-1], len(request.ids))], request.ids)

    def completions(self, requests: Sequence[Prompt]) -> Iterator[tuple[int, str]]:
        """Complete prompts."""
        if "steps" in self._engine.abilities:
            return complete(cast("OrtEngine", self._engine), requests)
        return self._written(requests)

    def _written(self, requests: Sequence[Prompt]) -> Iterator[tuple[int, str]]:
        for index, request in enumerate(requests):
            options: Any = asdict(request.sampling)
            answer = self._engine.generate(
                request.ids,
                max_new_tokens=request.max_new_tokens,
                stop=[end for end in request.until if end],
                **options,
            )
            yield index, cut(answer.text, request.until)

    def close(self) -> None:
        """Let go of the engine."""
        self._engine.close()
