"""Who computes: this process, or others."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zoo.evaluation.scorer import LocalScorer, Scorer

if TYPE_CHECKING:
    from zoo.package.folder import Package


def make_scorer(package: Package, workers: str | None) -> Scorer:
    """Open a package for scoring."""
    return LocalScorer(package.path)
