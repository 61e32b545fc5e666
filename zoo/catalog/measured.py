"""Reports of any kind, taken apart by the form of their figures: single numbers, checks, and rows that can be plotted.

A kind that does not exist yet is shown like the others: nothing here knows a kind's own names, but for the few words
by which a figure is recognised as a speed or an accuracy.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from zoo.declarations.report import Report

_SPEED = (r"(^|\.)(output|decode|generation)_?(token)?s?_?(throughput|tokens_per_second|tok_s|tps)", r"tokens_per_s")
_ACCURACY = (r"(^|[._,])acc(uracy)?(_norm)?($|[._,])", r"exact_match", r"perplexity$")
_ERROR = re.compile(r"stderr|chance|reference")


@dataclass(frozen=True)
class FigureRows:
    """A list of like things with numbers: a table, and a plot of its columns."""

    name: str
    labels: tuple[str, ...]
    columns: dict[str, tuple[float | None, ...]]
    plotted: bool
    """Whether the rows are of one kind, so that a plot compares what can be compared."""


@dataclass(frozen=True)
class Taken:
    """A report, taken apart."""

    figures: dict[str, Any]
    rows: tuple[FigureRows, ...]


def take_apart(report: Report) -> Taken:
    """Sort a report's figures by their form."""
    figures: dict[str, Any] = {}
    rows: list[FigureRows] = []
    for name, value in _walk(report.measured):
        if isinstance(value, list):
            found = _rows(name, value)
            if found is not None:
                rows.append(found)
        else:
            figures[name] = value
    return Taken(figures, tuple(rows))


def speed(reports: Iterable[Report]) -> tuple[str, float, Report] | None:
    """Find the latest measured speed: its name, tokens a second, and the report."""
    return _headline(reports, "bench", _SPEED)


def accuracy(reports: Iterable[Report]) -> tuple[str, float, Report] | None:
    """Find the latest measured accuracy: its name, the figure, and the report."""
    return _headline(reports, "eval", _ACCURACY)


def _headline(reports: Iterable[Report], kind: str, patterns: tuple[str, ...]) -> tuple[str, float, Report] | None:
    for report in reversed([report for report in reports if report.kind == kind]):
        numbers = {
            name: value for name, value in _walk(report.measured) if _is_number(value) and not _ERROR.search(name)
        }
        for pattern in patterns:
            for name, value in numbers.items():
                if re.search(pattern, name):
                    return name, float(value), report
    return None


def _walk(value: Mapping[str, Any], path: str = "", depth: int = 0) -> Iterator[tuple[str, Any]]:
    for key, inner in value.items():
        name = f"{path}.{key}" if path else str(key)
        if isinstance(inner, dict) and depth < 6:
            yield from _walk(inner, name, depth + 1)
        else:
            yield name, inner


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _rows(name: str, values: list[Any]) -> FigureRows | None:
    """Make rows of a list of objects, or of a list of numbers; None where there is nothing to count."""
    if values and all(_is_number(value) for value in values):
        labels = tuple(str(index) for index in range(len(values)))
        return FigureRows(name, labels, {name: tuple(map(float, values))}, plotted=len(values) > 1)
    objects = [value for value in values if isinstance(value, dict)]
    if not objects or len(objects) != len(values):
        return None
    keys = dict.fromkeys(key for record in objects for key, inner in record.items() if _is_number(inner))
    flags = dict.fromkeys(key for record in objects for key, inner in record.items() if isinstance(inner, bool))
    named = next((key for key, inner in objects[0].items() if isinstance(inner, str)), None)
    if not keys:
        return None
    labels = tuple(str(one.get(named)) if named else str(index + 1) for index, one in enumerate(objects))
    columns: dict[str, tuple[float | None, ...]] = {
        key: tuple(float(record[key]) if _is_number(record.get(key)) else None for record in objects) for key in keys
    }
    for key in flags:
        columns[key] = tuple(float(bool(record.get(key))) for record in objects)
    return FigureRows(name, labels, columns, plotted=len(objects) > 1 and "limit" not in keys)
