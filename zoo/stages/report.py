"""Reports → one table of all that is recorded of a model: a row a figure under its conditions, a column a build."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from zoo.declarations.base import Value, digest
from zoo.declarations.report import Report, ReportKind
from zoo.errors import ZooError
from zoo.package.folder import read_manifest
from zoo.package.hashes import stated_contents
from zoo.registry import Registry
from zoo.reports import latest_verification, recorded_reports, reports
from zoo.results import merge
from zoo.stages.subject import identify, packages_of

KINDS: tuple[ReportKind, ...] = ("verify", "eval", "bench")
_VERIFIED = (("top1", "top-1 agreement"), ("kl_mean", "mean KL, nats"), ("perplexity", "perplexity"))
_SPEEDS = (
    ("output_throughput", "output, tokens/s"),
    ("decode_throughput", "decode, tokens/s"),
    ("median_ttft_ms", "median TTFT, ms"),
    ("median_tpot_ms", "median TPOT, ms"),
    ("p99_itl_ms", "P99 ITL, ms"),
    ("texts_per_s", "texts/s"),
    ("tokens_per_s", "tokens/s"),
)
_COUNTS = ("samples", "cut_short", "seconds")


class Cell(Value):
    """A figure of one build."""

    value: float
    stderr: float | None = None
    measured_at: datetime
    note: str | None = None
    """What a reader of this figure should know."""


class ReportRow(Value):
    """One figure under one set of conditions: what stands in a row can be compared."""

    kind: ReportKind
    what: str
    """The task, the load, or what else was measured."""
    conditions: str
    """In words; builds measured under others have rows of their own."""
    conditions_hash: str
    metric: str
    cells: dict[str, Cell]
    """Recipe hash → figure."""


class Build(Value):
    """A column."""

    recipe_hash: str
    label: str
    """Its precision, with the beginning of the recipe's hash where that does not tell builds apart."""
    precision: str


class Table(Value):
    """All that is recorded of a model."""

    model: str
    builds: tuple[Build, ...]
    rows: tuple[ReportRow, ...]


@dataclass(frozen=True, slots=True)
class _Figure:
    what: str
    conditions: str
    comparable: Any
    """What two figures must share to be compared, as JSON."""
    metric: str
    value: float
    stderr: float | None = None
    note: str | None = None


def make_table(registry: Registry, model: str) -> Table:
    """Gather what is recorded of a model's builds, or of one package.

    Raises:
        UsageError: an unknown name.
        ZooError: nothing is recorded.
    """
    subject = identify(registry, model)
    if subject.package is not None:
        manifest = read_manifest(subject.package)
        own = reports(manifest.recipe_hash, contents=stated_contents(manifest))
        found = [report for report in own if report.kind in KINDS]
    else:
        family = subject.declared.family.name if subject.declared is not None else None
        found = [
            report
            for report in recorded_reports()
            if report.model == subject.label and (family is None or report.family == family)
        ]
        if subject.location is not None:  # many folders have one name
            hashes = {package.recipe_hash for package in packages_of(registry, subject)}
            found = [report for report in found if report.recipe_hash in hashes]
    if not found:
        raise ZooError(
            f"nothing is recorded of {subject.label}; measure it: zoo verify {model}, zoo eval {model} --tasks …, "
            f"zoo bench {model}"
        )
    return tabulate(subject.label, found)


def tabulate(model: str, found: Sequence[Report]) -> Table:
    """Lay reports out as a table; of several of one build under the same conditions the latest counts."""
    rows: dict[tuple[ReportKind, str, str, str], ReportRow] = {}
    for kind in KINDS:
        for report in _counting(kind, [report for report in found if report.kind == kind]):
            for figure in _FIGURES[kind](report):
                shared = digest([kind, figure.what, figure.comparable])
                key = (kind, figure.what, shared, figure.metric)
                cell = Cell(value=figure.value, stderr=figure.stderr, measured_at=report.measured_at, note=figure.note)
                cells = {**(rows[key].cells if key in rows else {}), report.recipe_hash: cell}
                rows[key] = ReportRow(
                    kind=kind, what=figure.what, conditions=figure.conditions, conditions_hash=shared,
                    metric=figure.metric, cells=cells,
                )  # fmt: skip
    tasks = list(dict.fromkeys((row.kind, row.what) for row in rows.values()))
    grouped = sorted(rows.values(), key=lambda one: (tasks.index((one.kind, one.what)), one.conditions))
    return Table(model=model, builds=_builds(found), rows=tuple(_told_apart(grouped)))


def commit(registry: Registry, model: str, folder: Path, note: str | None = None) -> tuple[Path, int, list[str]]:
    """Write what is recorded of a declared model into a folder of results, to be kept beside its declaration.

    Args:
        folder: ``results`` beside the family's YAML.
        note: what a reader should know of them, kept in the file.

    Returns:
        The file, how many reports it holds, and a line for each figure that is another now than before.

    Raises:
        UsageError: it is not a declared model.
        ZooError: nothing is recorded, or the file cannot be written.
    """
    declared = registry.model(model)
    mine = [
        report
        for report in recorded_reports()
        if (report.family, report.model) == (declared.family.name, declared.name)
    ]
    if not mine:
        raise ZooError(f"nothing is recorded of {model} on this machine; zoo verify, zoo eval and zoo bench record")
    path = folder / f"{declared.name}.yaml"
    before, now = merge(path, mine, note)
    return path, len(now), list(_changes(tabulate(model, before), tabulate(model, now)))


def _changes(before: Table, now: Table) -> Iterator[str]:
    """Say which figures changed under the same conditions, and whether for the worse."""
    old = {(row.kind, row.what, row.conditions_hash, row.metric): row for row in before.rows}
    labels = {build.recipe_hash: build.label for build in now.builds}
    for row in now.rows:
        earlier = old.get((row.kind, row.what, row.conditions_hash, row.metric))
        for recipe_hash, cell in row.cells.items() if earlier is not None else ():
            was = earlier.cells.get(recipe_hash) if earlier is not None else None
            if was is not None and was.value != cell.value:
                less_is_better = any(word in row.metric for word in ("KL", "perplexity", " ms", "bytes", ", s"))
                worse = (cell.value > was.value) == less_is_better
                yield (
                    f"{labels[recipe_hash]}, {row.what}, {row.metric}: {was.value:.6g} before, {cell.value:.6g} now"
                    f"{' (worse)' if worse else ''}"
                )


def _counting(kind: ReportKind, found: Sequence[Report]) -> Iterator[Report]:
    """Choose the reports that count, oldest first, so that a later one of the same conditions replaces it."""
    if kind != "verify":
        yield from found
        return
    for recipe_hash in dict.fromkeys(report.recipe_hash for report in found):
        latest = latest_verification([report for report in found if report.recipe_hash == recipe_hash])
        if latest is not None:
            yield latest


def _builds(found: Sequence[Report]) -> tuple[Build, ...]:
    order = {"fp32": 0, "fp16": 1, "int8": 2, "int4": 3}
    by_hash = {report.recipe_hash: report.precision for report in found}
    shared = Counter(by_hash.values())
    chosen = sorted(by_hash.items(), key=lambda one: (order.get(one[1], 9), one[0]))
    return tuple(
        Build(
            recipe_hash=recipe_hash, precision=precision,
            label=precision if shared[precision] == 1 else f"{precision} {recipe_hash[:8]}",
        )
        for recipe_hash, precision in chosen
    )  # fmt: skip


def _told_apart(rows: Sequence[ReportRow]) -> Iterator[ReportRow]:
    """Add the beginning of their hash to conditions that read alike and are not."""
    hashes: dict[tuple[str, str, str], set[str]] = {}
    for row in rows:
        hashes.setdefault((row.kind, row.what, row.conditions), set()).add(row.conditions_hash)
    for row in rows:
        if len(hashes[row.kind, row.what, row.conditions]) > 1:
            yield row.model_copy(update={"conditions": f"{row.conditions}, conditions {row.conditions_hash[:6]}"})
        else:
            yield row


def _verify_figures(report: Report) -> Iterator[_Figure]:
    settings = report.settings
    figures = report.measured.get("figures")
    conditions = "quick" if settings.get("quick") else "full"
    comparable = [settings.get("quick"), settings.get("sequences")]
    if report.passed is not None:
        note = None if report.passed else "past its tolerance"
        yield _Figure("against transformers", conditions, comparable, "verified", float(report.passed), None, note)
    for name, metric in _VERIFIED if isinstance(figures, Mapping) else ():
        value = _number(figures.get(name)) if isinstance(figures, Mapping) else None
        if value is not None:
            yield _Figure("against transformers", conditions, comparable, metric, value)


def _eval_figures(report: Report) -> Iterator[_Figure]:
    settings, measured = report.settings, report.measured
    what = str(settings.get("task", "evaluation"))
    shots = settings.get("num_fewshot")
    words = [str(settings.get("scoring", "")), f"{shots}-shot" if shots is not None else ""]
    words += [f"{measured.get('samples')} samples", "chat template" if settings.get("chat_template") else ""]
    conditions = ", ".join(word for word in words if word)
    cut = measured.get("cut_short")
    note = f"{cut} samples lost their beginning" if cut else None
    for name in measured:
        value = _number(measured[name])
        if value is not None and name not in _COUNTS and not name.endswith("_stderr"):
            yield _Figure(what, conditions, settings, name, value, _number(measured.get(f"{name}_stderr")), note)
    against = measured.get("against")
    if isinstance(against, Mapping):
        other = str(against.get("other"))
        agreement = _number(against.get("agreement"))
        if agreement is not None:
            yield _Figure(what, conditions, settings, f"same answer as {other}", agreement)
        metrics = against.get("metrics")
        for entry in metrics if isinstance(metrics, list) else ():
            if isinstance(entry, Mapping) and (value := _number(entry.get("difference"))) is not None:
                metric = f"{entry.get('metric')} less {other}'s"
                yield _Figure(what, conditions, settings, metric, value, _number(entry.get("stderr")))


def first_metric(report: Report) -> tuple[str, float]:
    """Give the first metric of a score, which is what limits are held against.

    Raises:
        ZooError: it has none.
    """
    for figure in _eval_figures(report):
        return figure.metric, figure.value
    raise ZooError(f"the score of {report.settings.get('task')} has no metric")


def _bench_figures(report: Report) -> Iterator[_Figure]:
    """Take the speeds of each load; those of two machines, or of two versions of the runtime, are not compared."""
    settings = {key: value for key, value in report.settings.items() if key != "cells"}
    machine = report.machine
    shared = [machine.model_dump(mode="json"), report.versions.get("onnxruntime")]
    conditions = f"{machine.cpu}, {machine.cores} cores"
    for name, metric in (("load_s", "load, s"), ("peak_rss_bytes", "peak memory, bytes")):
        value = _number(report.measured.get(name))
        if value is not None:
            yield _Figure("package", conditions, [report.settings, *shared], metric, value)
    workloads = report.measured.get("workloads")
    for workload in workloads if isinstance(workloads, list) else ():
        for name, metric in _SPEEDS if isinstance(workload, Mapping) else ():
            value = _number(workload.get(name)) if isinstance(workload, Mapping) else None
            if isinstance(workload, Mapping) and value is not None:
                load = [workload.get(key) for key in ("input_len", "output_len", "concurrency", "prompts")]
                yield _Figure(str(workload.get("label")), conditions, [settings, *shared, load], metric, value)


_FIGURES = {"verify": _verify_figures, "eval": _eval_figures, "bench": _bench_figures}


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
