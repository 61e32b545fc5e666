"""Print results: JSON for programs, tables for people, never wrapped into something that a pipe cannot read."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Collection, Iterable, Sequence
from typing import Any

import typer

from zoo.errors import UsageError
from zoo.terminal import one_line, printable


def echo(text: str = "", *, err: bool = False) -> None:
    """Print lines on stdout or stderr, with control characters escaped."""
    typer.echo(printable(text), err=err)


def print_json(value: Any) -> None:
    """Print a value as JSON on stdout; pydantic values and lists of them are dumped first."""

    def plain(item: Any) -> Any:
        return item.model_dump(mode="json") if hasattr(item, "model_dump") else str(item)

    echo(json.dumps(value, indent=2, ensure_ascii=False, default=plain))


def stored_text(stored: Any) -> str:
    """Describe in one line how weights are stored, and how much of that a build keeps."""
    if stored.quantization is None:
        return str(stored.format)
    counts = f"{stored.taken_over:,} parameters taken over, {stored.rounded:,} rounded again"
    return f"{stored.format}, {stored.quantization}: {counts}"


def print_notice(line: str) -> None:
    """Print a note on stderr."""
    echo(f"zoo: {one_line(line)}", err=True)


def print_table(
    columns: Sequence[str], rows: Iterable[Sequence[str]], right: Iterable[int] = (), group: int | None = None
) -> None:
    """Print a table: drawn by rich on a terminal, aligned plain columns, never cut, in a pipe.

    Args:
        columns: the titles.
        rows: the cells, printed as they are.
        right: indexes of the columns to align to the right.
        group: index of a column whose equal cells follow each other: a terminal shows each once, above its rows. A pipe
            gets every column.
    """
    lines = [tuple(one_line(cell) for cell in row) for row in rows]
    aligned = set(right)
    if sys.stdout.isatty():
        _draw(columns, lines, aligned, group)
        return
    widths = [max(len(line[index]) for line in [tuple(columns), *lines]) for index in range(len(columns))]
    for line in [tuple(columns), *lines]:
        cells = (
            cell.rjust(width) if index in aligned else cell.ljust(width)
            for index, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        typer.echo("  ".join(cells).rstrip())


def _draw(columns: Sequence[str], lines: Iterable[Sequence[str]], aligned: Collection[int], group: int | None) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    shown = [index for index in range(len(columns)) if index != group]
    for index in shown:
        table.add_column(columns[index], justify="right" if index in aligned else "left", overflow="fold")
    above = None
    for line in lines:
        cells = [line[index] for index in shown]
        if group is not None:
            cells[0] = f"  {cells[0]}"
            if line[group] != above:
                above = line[group]
                table.add_row(Text(above, style="bold"))
        table.add_row(*map(Text, cells))
    Console().print(table)


def figure_text(value: float, sign: str = "") -> str:
    """Format a score or a distance: four decimals, or three significant digits for very small or large values."""
    fixed = value == 0 or 1e-3 <= abs(value) < 1e4
    return f"{value:{sign}.4f}" if fixed else f"{value:{sign}.3g}"


def parse_bytes(text: str, option: str) -> int:
    """Read a size as people write it: ``12GB`` (decimal), ``4MiB`` (binary), ``1000``.

    Raises:
        UsageError: it is none, or not above 0.
    """
    match = re.fullmatch(r"(\d{1,15}(?:\.\d{1,6})?)\s*([kmgt]?)(i?)b?", text.strip().lower())
    if match is None or (match[3] and not match[2]):
        raise UsageError(f"{option} takes a size such as 12GB or 512MiB, not {text!r}")
    base = 1024 if match[3] else 1000
    size = int(float(match[1]) * base ** " kmgt".index(match[2] or " "))
    if size < 1:
        raise UsageError(f"{option} must be above 0, not {text!r}")
    return size
