"""A served model's card: what was built, from what, under which licence, and what was measured of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from zoo.catalog import measured
from zoo.catalog.words import figure, use_of
from zoo.declarations.report import Report
from zoo.package.chat_defaults import ChatDefaults
from zoo.plugins import host
from zoo.reports import latest_verification
from zoo.results import of_build

if TYPE_CHECKING:
    from zoo_server.served import ServedModel


def model_card(model: ServedModel) -> dict[str, Any]:
    """Collect what is known of a model, as JSON. Reports are read anew, so that a new measurement shows at once."""
    manifest = model.manifest
    recipe = manifest.recipe
    reports = of_build(host().registry, manifest)
    use, sentence = use_of(recipe.licence)
    return {
        "id": model.name,
        "family": recipe.family,
        "chat": model.chat,
        "task": model.task,
        "context_length": model.context_length,
        "sampling": _sampling(model),
        "parameters": manifest.parameters,
        "attention": recipe.architecture.attention,
        "licence": {
            "id": recipe.licence.id,
            "name": recipe.licence.name,
            "url": str(recipe.licence.url) if recipe.licence.url else None,
            "note": recipe.licence.note,
            "use": use,
            "sentence": sentence,
        },
        "build": {
            "precision": recipe.precision,
            "quantizer": recipe.quantizer.name,
            "target": recipe.target.name,
            "hub": recipe.weights.hub,
            "revision": recipe.weights.revision,
            "bits_per_weight": round(manifest.bits_per_weight, 2),
            "bytes": sum(record.size for record in manifest.files.values()),
            "recipe_hash": manifest.recipe_hash,
        },
        "verification": _verification(report for report in reports if report.kind == "verify"),
        "accuracy": _accuracy(reports),
        "speed": _speed(reports),
        "recipe": recipe.model_dump(mode="json", exclude_none=True),
    }


def _sampling(model: ServedModel) -> dict[str, float] | None:
    """Give the sampling that a conversation gets where nothing else is asked for; None where the authors state none."""
    defaults = ChatDefaults.of_package(model.path)
    return defaults.with_options() if model.chat and defaults.fields else None


def _verification(found: Iterable[Report]) -> dict[str, Any] | None:
    latest = latest_verification(list(found))
    if latest is None:
        return None
    limits = next(
        (rows for rows in measured.take_apart(latest).rows if {"value", "limit"} <= rows.columns.keys()), None
    )
    return {
        "passed": latest.passed is True,
        "quick": bool(latest.settings.get("quick")),
        "measured_at": latest.measured_at.isoformat(),
        "checks": [
            {"name": name, "value": _number(value), "limit": _number(limit)}
            for name, value, limit in zip(limits.labels, limits.columns["value"], limits.columns["limit"], strict=True)
        ]
        if limits is not None
        else [],
    }


def _accuracy(found: Sequence[Report]) -> list[dict[str, Any]]:
    """Give each task's latest figure."""
    tasks: dict[str, dict[str, Any]] = {}
    for report in found:
        chosen = measured.accuracy([report])
        if chosen is None:
            continue
        name, value, _ = chosen
        task, limit = report.settings.get("task"), report.settings.get("limit")
        error = measured.take_apart(report).figures.get(f"{name}_stderr")
        entry = {
            "value": figure(value) + (f" ± {error:.2g}" if isinstance(error, float) else ""),
            "name": f"{task}, {_plain(name)}" if isinstance(task, str) else _plain(name),
            "note": f"first {limit} questions only" if isinstance(limit, int) else None,
        }
        tasks[str(task)] = entry | _measured_by(report)
    return list(tasks.values())


def _speed(found: Sequence[Report]) -> dict[str, Any] | None:
    """Give the latest speed, with the workload it was reached at where the report names it."""
    chosen = measured.speed(found)
    if chosen is None:
        return None
    name, value, report = chosen
    label = measured.take_apart(report).figures.get(f"{name.rpartition('.')[0]}.label")
    entry = {
        "value": f"{figure(value)} tokens/s",
        "name": _plain(name),
        "note": label if isinstance(label, str) else None,
    }
    return entry | _measured_by(report)


def _measured_by(report: Report) -> dict[str, str]:
    machine = report.machine
    return {"measured_at": report.measured_at.isoformat(), "machine": f"{machine.cpu}, {machine.cores} cores"}


def _plain(name: str) -> str:
    return name.replace(".", ", ").replace("_", " ")


def _number(value: float | None) -> str:
    return "–" if value is None else figure(value)
