"""What to evaluate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from zoo.errors import UsageError, unknown

SCORINGS = ("auto", "likelihood", "generation")
ORIGINAL = "hf"
"""What ``--against`` calls the original weights, computed by the harness' own model over transformers."""


@dataclass(frozen=True)
class Request:
    """What to evaluate.

    Attributes:
        model: a package folder, or a model of which a package is in the store.
        tasks: registered tasks, or the harness' own.
        data: a folder, a zip archive or a file that tasks read instead of what was fetched.
        num_fewshot: worked examples before each question, instead of the task's own number.
        scoring: by the likelihood of options or by what the model writes; ``auto``: what a model was made for.
        against: another package, a built model, or ``hf``: the original weights through transformers.
        weights: where those are.
        workers: processes that compute, or the address of a Ray cluster.
        log_samples: keep every sample beside the report.
        engine: what opens the package; by default the engine of its target.
    """

    model: str
    tasks: Sequence[str]
    precision: str | None = None
    data: Path | None = None
    limit: int | None = None
    num_fewshot: int | None = None
    seed: int = 0
    scoring: str = "auto"
    against: str | None = None
    weights: str | None = None
    workers: str | None = None
    log_samples: bool = False
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
