"""``zoo eval``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from zoo.cli.options import EngineName, Json, Precision, with_options
from zoo.cli.output import echo, figure_text, print_json, print_table
from zoo.cli.progress import drawn, seconds_left
from zoo.errors import UsageError
from zoo.stages.evaluate.request import EvaluationRequest

if TYPE_CHECKING:
    from zoo.declarations.report import Report
    from zoo.evaluation.comparison import Comparison
    from zoo.evaluation.harness_model import Step
    from zoo.stages.evaluate.stage import Evaluation


@with_options(EvaluationRequest)
def evaluate(
    model: Annotated[str | None, typer.Argument(help="A package folder or a built model.")] = None,
    tasks: Annotated[
        str, typer.Option("--tasks", metavar="A,B,...", help="Tasks, registered or the harness' own.")
    ] = "",
    list_tasks: Annotated[bool, typer.Option("--list-tasks", help="List the registered tasks and end.")] = False,
    precision: Precision = None,
    engine: EngineName = None,
    as_json: Json = False,
    **options: Any,
) -> None:
    """Score a package on tasks through lm-evaluation-harness, and keep a report of each."""
    from zoo.plugins import host
    from zoo.stages.evaluate.stage import evaluate as run

    registry = host().registry
    if list_tasks:
        print_json(sorted(registry.tasks)) if as_json else echo("\n".join(sorted(registry.tasks)))
        return
    if model is None:
        raise UsageError("name a package, or a model that is built: zoo eval MODEL --tasks a,b")
    names = [task.strip() for task in tasks.split(",") if task.strip()]
    request = EvaluationRequest(model, names, precision, engine=engine, **options)
    with drawn(_line) as progress:
        done = run(registry, request, progress=progress)
    if as_json:
        print_json({
            "reports": done.reports,
            "paths": done.paths,
            "samples": done.samples,
            "comparisons": done.comparisons,
            "notes": done.notes,
        })  # fmt: skip
    else:
        _print(done)


def _line(step: Step) -> tuple[float, str]:
    return step.done / max(step.total, 1), f"{step.done} of {step.total} {step.what}{seconds_left(step.eta)}"


def _print(done: Evaluation) -> None:
    first = done.reports[0]
    name = f"{first.family}/{first.model}" if first.family else first.model
    echo(f"{name} {first.precision}, recipe {first.recipe_hash[:12]}")
    echo()
    print_table(
        ["TASK", "SCORED BY", "SHOTS", "SAMPLES", "METRIC", "VALUE", "STDERR"],
        [row for report in done.reports for row in _rows(report)],
        right=(2, 3, 5, 6),
    )
    for comparison in done.comparisons:
        _print_comparison(comparison)
    echo()
    for note in done.notes:
        echo(f"note: {note}")
    for path in (*done.paths, *done.samples):
        echo(f"{'samples' if path.suffix == '.jsonl' else 'report'}: {path}")


def _rows(report: Report) -> Iterator[tuple[str, ...]]:
    settings, measured = report.settings, report.measured
    first = True
    for metric, value in metrics_of(measured).items():
        head = (settings["task"], settings["scoring"], settings["num_fewshot"], measured["samples"])
        yield (*(str(cell) if first else "" for cell in head), metric, figure_text(value), number(measured, metric))
        first = False


def metrics_of(measured: Any) -> dict[str, float]:
    """Return the metrics of an evaluation, without standard errors and counts."""
    other = ("samples", "cut_short", "seconds")
    return {
        name: value
        for name, value in measured.items()
        if isinstance(value, float | int) and name not in other and not name.endswith("_stderr")
    }


def number(measured: Any, metric: str) -> str:
    """Write a metric's standard error, or a dash."""
    error = measured.get(f"{metric}_stderr")
    return figure_text(error) if isinstance(error, float | int) else "-"


def _print_comparison(one: Comparison) -> None:
    echo()
    agreement = f", the same answer at {one.agreement:.2%}" if one.agreement is not None else ""
    echo(f"{one.task}: {one.what} against {one.other}, {one.samples} samples{agreement}")
    print_table(
        ["METRIC", one.what.upper(), one.other.upper(), "DIFFERENCE", "STDERR"],
        [
            (
                row.metric, figure_text(row.value), figure_text(row.other), figure_text(row.difference, "+"),
                "-" if row.stderr is None else figure_text(row.stderr),
            )
            for row in one.metrics
        ],
        right=(1, 2, 3, 4),
    )  # fmt: skip
    echo(one.verdict)
