"""What to evaluate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from zoo.declarations.option import option
from zoo.errors import UsageError, unknown

SCORINGS = ("auto", "likelihood", "generation")
ORIGINAL = "hf"
"""What ``--against`` calls the original weights, computed by the harness' own model over transformers."""


@dataclass(frozen=True)
class EvaluationRequest:
    """What to evaluate."""

    model: str
    """A package folder, or a model of which a package is in the store."""
    tasks: Sequence[str]
    """Registered tasks, or the harness' own."""
    precision: str | None = None
    data: Path | None = option(
        None, "Folder, archive or file that the tasks read, instead of the fetched ones.", metavar="DIR|FILE"
    )
    limit: int | None = option(None, "Only the first N questions of each task.", metavar="N")
    num_fewshot: int | None = option(
        None, "Number of worked examples before each question, instead of the task's own.", metavar="N"
    )
    seed: int = option(0, "Seed for examples and sampled answers.")
    scoring: str = option(
        "auto", "auto: generation for chat models, likelihood for base models.", metavar="auto|likelihood|generation"
    )
    against: str | None = option(None, "Compare with a package, or with transformers in float32.", metavar="PACKAGE|hf")
    weights: str | None = option(None, "Folder of the original weights, for --against hf.", metavar="DIR|HUB_ID")
    workers: str | None = option(None, "Use N processes, or a Ray cluster.", metavar="N|ray://…")
    log_samples: bool = option(False, "Keep every sample beside the report.")
    engine: str | None = None

    def check(self) -> None:
        """Refuse values that mean nothing.

        Raises:
            UsageError: the first of them.
        """
        if self.scoring not in SCORINGS:
            raise unknown("scoring", self.scoring, SCORINGS)
        if self.limit is not None and self.limit < 1:
            raise UsageError(f"limit must be 1 or more, not {self.limit}")
        if self.num_fewshot is not None and self.num_fewshot < 0:
            raise UsageError(f"num-fewshot must be 0 or more, not {self.num_fewshot}")
        if not self.tasks:
            raise UsageError("name at least one task: --tasks a,b; `zoo eval --list-tasks` shows the registered ones")
        if self.weights is not None and self.against != ORIGINAL:
            raise UsageError("--weights goes with --against hf: they are what the package is compared with")
