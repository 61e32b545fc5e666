"""Plots of measured rows: a curve over many, bars over few; a table beside them says the same."""

from __future__ import annotations

from markupsafe import Markup

from zoo.catalog.measured import FigureRows
from zoo.catalog.words import figure
from zoo.svg import drawing, line, number, path, rect, text

WIDTH = 640.0
CURVE_FROM = 12
"""Rows from which a curve reads better than bars."""


def plots(rows: FigureRows) -> list[tuple[str, Markup]]:
    """Draw each column of comparable rows, with its name."""
    if not rows.plotted:
        return []
    drawn = []
    for name, values in rows.columns.items():
        known = [value for value in values if value is not None]
        if not known or min(known) < 0 or max(known) == min(known):
            continue  # nothing to compare
        draw = _curve if len(values) >= CURVE_FROM else _bars
        drawn.append((name, draw(f"{rows.name}: {name}", rows.labels, values)))
    return drawn


def _bars(label: str, labels: tuple[str, ...], values: tuple[float | None, ...]) -> Markup:
    most = max(value for value in values if value is not None)
    marks: list[str] = []
    for index, (name, value) in enumerate(zip(labels, values, strict=True)):
        y = 4 + index * 24
        shown = name if len(name) <= 26 else f"{name[:25]}…"
        marks.append(text(170, y + 13, shown, "note", "end"))
        if value is None:
            marks.append(text(180, y + 13, "not finite", "note"))
            continue
        width = 380 * value / most
        marks.append(rect(180, y, max(width, 1), 17, "measure", radius=3, title=f"{name}: {figure(value)}"))
        marks.append(text(186 + width, y + 13, figure(value), "note"))
    return drawing(WIDTH, len(values) * 24 + 6, label, "plot", marks)


def _curve(label: str, labels: tuple[str, ...], values: tuple[float | None, ...]) -> Markup:
    most = max(value for value in values if value is not None)
    left, right, top, bottom = 70.0, WIDTH - 16, 14.0, 170.0
    step = (right - left) / (len(values) - 1)
    marks = [line(left, y, right, y, "grid") for y in (top, (top + bottom) / 2, bottom)]
    for share in (1.0, 0.5, 0.0):
        marks.append(text(left - 8, bottom - (bottom - top) * share + 4, figure(most * share), "note", "end"))
    d, pen = "", "M"
    dots: list[str] = []
    for index, value in enumerate(values):
        if value is None:
            pen = "M"
            continue
        x, y = left + index * step, bottom - (bottom - top) * value / most
        d += f"{pen}{number(x)} {number(y)}"
        pen = "L"
        dots.append(rect(x - 2.5, y - 2.5, 5, 5, "dot", radius=2.5, title=f"{labels[index]}: {figure(value)}"))
    marks.append(path(d, "curve"))
    marks += dots
    marks.append(text(left, bottom + 20, labels[0], "note"))
    marks.append(text(right, bottom + 20, labels[-1], "note", "end"))
    return drawing(WIDTH, 200, label, "plot", marks)
