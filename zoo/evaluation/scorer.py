"""Whoever computes the harness' requests: this process over an opened package, or others that it asks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from zoo.evaluation.completion import Prompt, complete
from zoo.evaluation.likelihood import Continuation, Likelihood, score

if TYPE_CHECKING:
    from zoo.engine import Engine


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
    """Computes in this process."""

    def __init__(self, package: Path, *, threads: int | None = None) -> None:
        from zoo.engine import Engine
        from zoo.package.folder import open_package

        self._engine: Engine = Engine.open(open_package(package), threads=threads)

    def likelihoods(self, requests: Sequence[Continuation]) -> Iterator[tuple[int, Likelihood]]:
        """Score continuations."""
        return score(self._engine.session, requests)

    def completions(self, requests: Sequence[Prompt]) -> Iterator[tuple[int, str]]:
        """Complete prompts."""
        return complete(self._engine, requests)

    def close(self) -> None:
        """Nothing to let go of."""
