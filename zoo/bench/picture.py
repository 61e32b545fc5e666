"""Rows → a picture: latency against throughput, one curve for each pair of lengths, its dots the concurrencies."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

from zoo.bench.measure import BenchRow
from zoo.svg import document, line, number, path, text

WIDTH, PANEL = 760.0, 300.0
LEFT, RIGHT, TOP, BOTTOM = 78.0, 540.0, 40.0, 44.0
COLOURS = ("#2a6fb0", "#c2571a", "#3d8b54", "#8a4fa0", "#a68a00", "#b0325b")
DASHES = ("", "7 4", "2 4", "9 3 2 3")
STYLE = (
    "svg{font:13px system-ui,sans-serif}.paper{fill:#fff}text{fill:#222}.note{fill:#666;font-size:11px}"
    ".title{font-weight:600}.grid{stroke:#ddd;stroke-width:1}.axis{stroke:#888;stroke-width:1}"
)
PANELS: tuple[tuple[str, Callable[[BenchRow], float | None]], ...] = (
    ("Time to first token, median, ms", lambda row: row.median_ttft_ms),
    ("Time per output token, median, ms", lambda row: row.median_tpot_ms),
)


@dataclass(frozen=True, slots=True)
class _Curve:
    name: str
    rows: tuple[BenchRow, ...]
    colour: str
    dash: str


def picture(rows: Sequence[BenchRow], title: str) -> str:
    """Draw rows as a standalone SVG."""
    curves = _curves(rows)
    height = TOP + PANEL * len(PANELS) + 10
    marks = [text(16, 24, title, "title")]
    for index, (name, value) in enumerate(PANELS):
        marks += _panel(curves, name, value, TOP + index * PANEL)
    marks += _legend(curves)
    label = f"{title}: latency against output throughput"
    return document(WIDTH, max(height, TOP + 24 + 18 * len(curves)), label, STYLE, marks)


def _curves(rows: Sequence[BenchRow]) -> list[_Curve]:
    """Sort rows into curves; the colour says the prompt's length, the dashes the answer's."""
    groups: dict[tuple[int | None, int | None], list[BenchRow]] = {}
    for row in rows:
        groups.setdefault((row.input_len, row.output_len), []).append(row)
    inputs, outputs = (list(dict.fromkeys(key[at] for key in groups)) for at in (0, 1))
    curves = []
    for (asked, answered), members in groups.items():
        name = f"{asked} in, {answered} out" if asked is not None else members[0].label.split(" ×")[0]
        curves.append(
            _Curve(
                name,
                tuple(sorted(members, key=lambda row: row.output_throughput)),
                COLOURS[inputs.index(asked) % len(COLOURS)],
                DASHES[outputs.index(answered) % len(DASHES)],
            )
        )
    return curves


def _panel(curves: Sequence[_Curve], name: str, value: Callable[[BenchRow], float | None], top: float) -> list[str]:
    points = [(row.output_throughput, y) for curve in curves for row in curve.rows if (y := value(row)) is not None]
    upper, lower = top + 30, top + PANEL - BOTTOM
    marks = [text(LEFT, top + 18, name)]
    most_x, most_y = (_round_up(max((point[at] for point in points), default=1.0)) for at in (0, 1))

    def place(x: float, y: float) -> tuple[float, float]:
        return LEFT + (RIGHT - LEFT) * x / most_x, lower - (lower - upper) * y / most_y

    for step in range(5):
        x, y = place(most_x * step / 4, most_y * step / 4)
        marks += [
            line(LEFT, y, RIGHT, y, "grid"),
            text(LEFT - 8, y + 4, _tick(most_y * step / 4), "note", "end"),
            text(x, lower + 16, _tick(most_x * step / 4), "note", "middle"),
        ]
    marks += [
        line(LEFT, lower, RIGHT, lower, "axis"),
        text(RIGHT, lower + 34, "output tokens a second", "note", "end"),
    ]
    for curve in curves:
        placed = [(row, place(row.output_throughput, y)) for row in curve.rows if (y := value(row)) is not None]
        if len(placed) > 1:
            d = "M" + "L".join(f"{number(x)} {number(y)}" for _, (x, y) in placed)
            marks.append(path(d, "", f"fill:none;stroke:{curve.colour};stroke-width:1.6;stroke-dasharray:{curve.dash}"))
        for row, (x, y) in placed:
            said = f"{row.label}: {row.output_throughput:,.1f} tokens/s, {value(row):,.1f} ms"
            marks.append(_dot(x, y, curve.colour, said))
            if row.concurrency is not None and len(curves) <= 3:
                marks.append(text(x + 6, y - 5, f"×{row.concurrency}", "note"))
    return marks


def _dot(x: float, y: float, colour: str, said: str) -> str:
    return f'<circle cx="{number(x)}" cy="{number(y)}" r="3.5" fill="{colour}"><title>{escape(said)}</title></circle>'


def _legend(curves: Sequence[_Curve]) -> list[str]:
    marks, x = [], RIGHT + 30
    for index, curve in enumerate(curves):
        y = TOP + 40 + 18 * index
        style = f"fill:none;stroke:{curve.colour};stroke-width:2;stroke-dasharray:{curve.dash}"
        marks += [path(f"M{number(x)} {number(y)}h32", "", style), text(x + 40, y + 4, curve.name)]
    if any(row.concurrency is not None for curve in curves for row in curve.rows):
        marks.append(text(x, TOP + 48 + 18 * len(curves), "a dot for each number of requests at once", "note"))
    return marks


def _round_up(value: float) -> float:
    """The next number of the form 1, 2, 2.5, 4, 5 or 8 times a power of ten: axes end there."""
    if value <= 0 or not math.isfinite(value):
        return 1.0
    scale = 10.0 ** math.floor(math.log10(value))
    return next(step * scale for step in (1, 2, 2.5, 4, 5, 8, 10) if step * scale >= value * 0.999999)


def _tick(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
