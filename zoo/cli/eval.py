"""``zoo eval``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from zoo.cli.output import echo, figure_text, print_json, print_table
from zoo.cli.progress import progress_bar
from zoo.errors import UsageError

if TYPE_CHECKING:
    from zoo.declarations.report import Report
    from zoo.evaluation.comparison import Comparison
    from zoo.evaluation.harness_model import Step
    from zoo.stages.evaluate import Evaluation


def evaluate(
    model: Annotated[str | None, typer.Argument(help="A package folder or a built model.")] = None,
    tasks: Annotated[
        str, typer.Option("--tasks", metavar="A,B,...", help="Tasks, registered or the harness' own.")
    ] = "",
    list_tasks: Annotated[bool, typer.Option("--list-tasks", help="List the registered tasks and end.")] = False,
    precision: Annotated[
        str | None, typer.Option("-p", "--precision", help="Precision of the package, if several are built.")
    ] = None,
    data: Annotated[
        Path | None, typer.Option(metavar="DIR|FILE", help="Folder with the tasks' files, instead of the fetched ones.")
    ] = None,
    limit: Annotated[int | None, typer.Option(metavar="N", help="Only the first N questions of each task.")] = None,
    num_fewshot: Annotated[
        int | None,
        typer.Option(metavar="N", help="Number of worked examples before each question, instead of the task's own."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed for examples and sampled answers.")] = 0,
    scoring: Annotated[
        str,
        typer.Option(
            metavar="auto|likelihood|generation", help="auto: generation for chat models, likelihood for base models."
        ),
    ] = "auto",
    against: Annotated[
        str | None, typer.Option(metavar="PACKAGE|hf", help="Compare with a package, or with transformers in float32.")
    ] = None,
    weights: Annotated[
        str | None, typer.Option(metavar="DIR|HUB_ID", help="Folder of the original weights, for --against hf.")
    ] = None,
    workers: Annotated[str | None, typer.Option(metavar="N|ray://…", help="Use N processes, or a Ray cluster.")] = None,
    engine: Annotated[
        str | None, typer.Option(metavar="NAME", help="Engine that opens the package; its target's own by default.")
    ] = None,
    log_samples: Annotated[bool, typer.Option("--log-samples", help="Keep every sample beside the report.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Score a package on tasks through lm-evaluation-harness, and keep a report of each."""
    from zoo.plugins import host
    from zoo.stages.evaluate import Request
    from zoo.stages.evaluate import evaluate as run

    registry = host().registry
    if list_tasks:
        print_json(sorted(registry.tasks)) if as_json else echo("\n".join(sorted(registry.tasks)))
        return
    if model is None:
        raise UsageError("name a package, or a model that is built: zoo eval MODEL --tasks a,b")
    names = [task.strip() for task in tasks.split(",") if task.strip()]
    request = Request(
        model,
        names,
        precision,
        data,
        limit,
        num_fewshot,
        seed,
        scoring,
        against,
        weights,
        workers,
        log_samples,
        engine,
    )
    with _progress() as progress:
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


@contextmanager
def _progress() -> Iterator[Callable[[Step], None] | None]:
    with progress_bar() as draw:
        if draw is None:
            yield None
            return

        def show(step: Step) -> None:
            draw(step.done / max(step.total, 1), _line(step))

        yield show


def _line(step: Step) -> str:
    left = f"  {step.eta:.0f} s left" if step.eta is not None else ""
    return f"{step.done} of {step.total} {step.what}{left}"


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
