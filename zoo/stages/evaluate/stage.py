"""Scores a package on tasks, one report each."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.declarations.report import Report
from zoo.embedding import is_encoder
from zoo.errors import ZooError
from zoo.evaluation.comparison import Comparison
from zoo.evaluation.extra import require_harness
from zoo.evaluation.harness import Outcome
from zoo.evaluation.tasks import Choices, load_suite
from zoo.package.folder import open_package
from zoo.registry import Registry
from zoo.reports import keep_report, require_place
from zoo.stages.evaluate.data import DataSource
from zoo.stages.evaluate.other import Other
from zoo.stages.evaluate.request import EvaluationRequest
from zoo.stages.evaluate.run import Run, choose_scoring
from zoo.stages.opening import with_memory
from zoo.stages.subject import find_package
from zoo.stages.texts import evaluate_texts

if TYPE_CHECKING:
    from zoo.evaluation.harness_model import Progress


@dataclass
class Evaluation:
    """What came out.

    Attributes:
        reports: one a task.
        paths: where each is.
        samples: where each task's samples are, if they were asked for.
        comparisons: one a task, where something was compared.
        notes: what a reader of the figures should know.
    """

    reports: list[Report] = field(default_factory=list)
    paths: list[Path] = field(default_factory=list)
    samples: list[Path] = field(default_factory=list)
    comparisons: list[Comparison] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def evaluate(registry: Registry, request: EvaluationRequest, *, progress: Progress | None = None) -> Evaluation:
    """Score a package on tasks and keep a report of each.

    Raises:
        UsageError: an unknown task or value.
        ZooError: the package, a task's files or an extra is missing, or something in them is wrong.
    """
    request.check()
    package = open_package(find_package(registry, request.model, request.precision))
    if is_encoder(with_memory(registry, package)):
        return evaluate_texts(registry, package, request)
    require_harness()
    require_place(package.manifest.recipe_hash)
    scoring = choose_scoring(registry, package, request.scoring)
    data = DataSource(registry, request.data)
    choices = Choices(data, scoring, request.num_fewshot, request.limit, request.seed)
    other = Other.find(registry, request, package)
    # Every task is loaded once before anything is computed: what is wrong with the last shows at once.
    suites = [load_suite(name, registry.tasks, choices) for name in dict.fromkeys(request.tasks)]
    result = Evaluation(notes=[note for suite in suites for note in suite.notes])
    if other is not None and other.note:
        result.notes.append(other.note)
    run = Run(package, request, scoring, progress)
    try:
        for suite in suites:
            outcome, measured = run.score(suite)
            libraries: tuple[str, ...] = ()
            if other is not None:
                fresh = load_suite(suite.name, registry.tasks, choices)
                comparison, theirs = other.compare(outcome, run.model.tok_encode, fresh, request, progress)
                result.comparisons.append(comparison)
                measured["against"] = comparison.model_dump(mode="json")
                if theirs is not None:
                    keep_report(theirs)
                else:
                    libraries = ("torch", "transformers")
                    result.notes += [f"{suite.name}: {other.note}"] if other.note else []
            report = run.report(suite, outcome, measured, *libraries)
            result.reports.append(report)
            result.paths.append(keep_report(report))
            if request.log_samples:
                result.samples.append(_keep_samples(result.paths[-1], outcome))
            if measured["cut_short"]:
                result.notes.append(
                    f"{suite.name}: {measured['cut_short']} of {measured['samples']} samples are longer than the "
                    f"context of {run.context} tokens and were scored without their beginning"
                )
        run.close(done=True)
        if other is not None:
            other.close(done=True)
    finally:
        run.close(done=False)
        if other is not None:
            other.close(done=False)
    return result


def _keep_samples(report: Path, outcome: Outcome) -> Path:
    """Write every sample beside its report, one a line."""
    path = report.with_name(f"samples-{report.stem}.jsonl")
    lines = (
        json.dumps({"task": sample.task, **sample.raw}, ensure_ascii=False, default=_plain)
        for sample in outcome.samples
    )
    try:
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    except OSError as error:
        raise ZooError(f"{path}: the samples cannot be written: {error.strerror or error}") from None
    return path


def _plain(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else str(value)
