"""Results beside declarations: reports that a plugin ships, ``results/MODEL.yaml`` next to the family's YAML.

They say what was verified, scored and measured where, in the words of the reports under ``$ZOO_HOME``, without what
only a first reading needs (layers, samples, texts). What stands there is the publisher's word, not this machine's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field

from zoo.catalog.directory import find_listed
from zoo.declarations.base import Value, digest
from zoo.declarations.manifest import Manifest
from zoo.declarations.report import Report
from zoo.errors import ZooError
from zoo.package.files import guarded, write_whole
from zoo.package.hashes import stated_contents
from zoo.registry import DeclaredFamily, DeclaredModel, Registry
from zoo.reports import latest_verification, recorded_reports, reports
from zoo.yamlfile import Document

FOLDER = "results"
RUNGS = ("declared", "builds", "parity", "verified", "scored", "served")
"""How far a model has come. A tiny one of its shape builds, and computes what transformers computes (the conformance
kit, as the plugin directory states it); its own checkpoint is verified; it is scored; its speed is measured."""
MAX_NOTE = 1000
_KEPT_LISTS = ("checks", "workloads", "tasks")


class Results(Value):
    """A file of results."""

    note: str | None = Field(default=None, max_length=MAX_NOTE)
    """What a reader should know of them, in the publisher's words; kept when reports are added."""
    reports: tuple[Report, ...] = Field(max_length=10_000)


def committed(family: DeclaredFamily) -> list[Report]:
    """List the reports that a family's plugin ships, oldest first; a file that is wrong is passed over."""
    if family.path is None or not (family.path.parent / FOLDER).is_dir():
        return []
    shipped: list[Report] = []
    for path in sorted((family.path.parent / FOLDER).glob("*.yaml")):
        try:
            stated = read_results(path)
        except ZooError:
            continue  # `zoo validate` tells it
        shipped += [
            report for report in stated.reports if report.family == family.family.name and report.model == path.stem
        ]
    return sorted(shipped, key=lambda report: report.measured_at)


def read_results(path: Path) -> Results:
    """Read a file of results; one that does not exist is empty.

    Raises:
        ZooError: it is not one.
    """
    return Document(path).validate(Results) if path.is_file() else Results(reports=())


def note_of(model: DeclaredModel) -> str | None:
    """Read what the plugin notes of a model's results."""
    path = model.declared_in.path
    try:
        return read_results(path.parent / FOLDER / f"{model.name}.yaml").note if path is not None else None
    except ZooError:
        return None


def all_reports(registry: Registry) -> list[Report]:
    """List what was recorded here, and what plugins ship of builds that were not measured here in the same way."""
    mine = recorded_reports()
    here = {_key(report) for report in mine}
    shipped = [
        report for family in registry.families.values() for report in committed(family) if _key(report) not in here
    ]
    return sorted([*mine, *shipped], key=lambda report: report.measured_at)


def of_build(registry: Registry, manifest: Manifest) -> list[Report]:
    """List the reports on a build: recorded here, and of kinds that are not, those shipped for the very same bytes."""
    contents = stated_contents(manifest)
    mine = reports(manifest.recipe_hash, contents=contents)
    kinds = {report.kind for report in mine}
    family = registry.families.get(manifest.recipe.family or "")
    shipped = [
        report
        for report in (committed(family) if family is not None else ())
        if report.contents == contents
        and report.kind not in kinds  # a later zoo may name the same bytes by another recipe
    ]
    return sorted([*mine, *shipped], key=lambda one: one.measured_at)


def merge(path: Path, fresh: Sequence[Report], note: str | None = None) -> tuple[list[Report], list[Report]]:
    """Add reports to a file of results, each in the place of an earlier one of the same build, settings and machine.

    Args:
        note: what the file is to note of them; None leaves the note that it has.

    Returns:
        What the file said before, and what it says now.

    Raises:
        ZooError: the file is not one of results, or cannot be written.
    """
    stated = read_results(path)
    before = list(stated.reports)
    merged = {_key(report): report for report in [*before, *map(slim, sorted(fresh, key=lambda one: one.measured_at))]}
    now = sorted(merged.values(), key=lambda one: (one.kind, one.precision, one.recipe_hash, one.measured_at))
    said = note or stated.note
    if said is not None and len(said) > MAX_NOTE:
        raise ZooError(f"the note has {len(said)} characters, {MAX_NOTE} at most")
    data = ({"note": said} if said else {}) | {
        "reports": [report.model_dump(mode="json", exclude_none=True) for report in now]
    }
    text = "# Written by `zoo report --commit`.\n" + yaml.safe_dump(
        data, sort_keys=False, allow_unicode=True, width=120
    )
    with guarded(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, text.encode(), replace=True)
    return before, now


def slim(report: Report) -> Report:
    """Keep of a report what tables and pages show."""
    return report.model_copy(update={"measured": _slim(report.measured)})


def _slim(value: Mapping[str, Any]) -> dict[str, Any]:
    kept: dict[str, Any] = {}
    for name, item in value.items():
        if isinstance(item, Mapping):
            kept[name] = _slim(item)
        elif isinstance(item, list | tuple):
            if name in _KEPT_LISTS:
                kept[name] = [_slim(part) if isinstance(part, Mapping) else part for part in item]
        elif item is not None:
            kept[name] = round(item, 6) if isinstance(item, float) and abs(item) >= 1e-3 else item
    return kept


def _key(report: Report) -> str:
    machine = report.machine.model_dump(mode="json") if report.kind == "bench" else None
    settings = {name: value for name, value in report.settings.items() if name != "tolerance"}
    return digest([report.kind, report.recipe_hash, report.contents, settings, machine])


def ladder(model: DeclaredModel, found: Iterable[Report]) -> tuple[str, ...]:
    """Name the rungs that a model stands on, the lowest first; a later one does not need those before it.

    Args:
        found: the reports on its builds.
    """
    mine = [report for report in found if report.family == model.family.name and report.model == model.name]
    listed = find_listed(model.declared_in.plugin)
    passes = listed is not None and listed.conformance is not None and not listed.conformance.failed
    verified = latest_verification([report for report in mine if report.kind == "verify" and report.own_weights])
    reached = {
        "declared": True,
        "builds": passes or bool(mine),
        "parity": passes,
        "verified": verified is not None and verified.passed is True,
        "scored": any(report.kind == "eval" for report in mine),
        "served": any(report.kind == "bench" for report in mine),
    }
    return tuple(rung for rung in RUNGS if reached[rung])
