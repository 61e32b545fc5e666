"""``zoo report``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from zoo.cli.options import Json
from zoo.cli.output import echo, figure_text, print_json, print_table
from zoo.units import bytes_text

if TYPE_CHECKING:
    from zoo.stages.report import Cell, ReportRow, Table


def report(
    model: Annotated[str, typer.Argument(help="A model with all its builds, or one package folder.")],
    markdown: Annotated[bool, typer.Option("--markdown", help="Print a Markdown table.")] = False,
    as_json: Json = False,
    commit: Annotated[
        Path | None,
        typer.Option("--commit", metavar="DIR", help="Write it into this folder of results beside the family's YAML."),
    ] = None,
    note: Annotated[
        str | None, typer.Option("--note", metavar="TEXT", help="With --commit: a note for readers.")
    ] = None,
) -> None:
    """Show the recorded results of a model in one table: verified, scored, measured. A row holds comparable figures."""
    from zoo.plugins import host
    from zoo.stages import report as stage

    if commit is not None:
        path, count, changes = stage.commit(host().registry, model, commit, note)
        echo(f"{path}: {count} results")
        for change in changes:
            echo(change)
        return
    table = stage.make_table(host().registry, model)
    if as_json:
        print_json(table)
        return
    titles = ["what", "conditions", "figure", *(build.label for build in table.builds)]
    right = range(3, len(titles))
    if markdown:
        _print_markdown(titles, _lines(table, repeat=True), right)
    else:
        print_table([title.upper() for title in titles], _lines(table, repeat=False), right)
    for note in dict.fromkeys(_notes(table)):
        echo(f"{'' if not markdown else chr(10)}{note}")


def _lines(table: Table, *, repeat: bool) -> Iterator[list[str]]:
    """Format one line per row; a cell equal to the one above is left empty unless ``repeat`` is set."""
    before = ("", "")
    for row in table.rows:
        here = (f"{row.kind}: {row.what}", row.conditions)
        cells = [_cell(row, row.cells.get(build.recipe_hash)) for build in table.builds]
        yield [*(("", "") if here == before and not repeat else here), row.metric, *cells]
        before = here


def _cell(row: ReportRow, cell: Cell | None) -> str:
    if cell is None:
        return "-"
    if row.metric == "verified":
        return "yes" if cell.value else "NO"
    if row.metric.endswith(", bytes"):
        return bytes_text(cell.value)
    if row.kind == "bench":
        text = f"{cell.value:,.2f}"
    elif row.metric.startswith("top-1") or row.metric.startswith("same answer"):
        text = f"{cell.value:.2%}"
    else:
        text = figure_text(cell.value)
    if cell.stderr is not None:
        text += f" ± {figure_text(cell.stderr)}"
    return text + ("*" if cell.note and row.kind == "eval" else "")


def _notes(table: Table) -> Iterator[str]:
    labels = {build.recipe_hash: build.label for build in table.builds}
    for row in table.rows:
        for recipe_hash, cell in row.cells.items():
            if cell.note:
                star = "* " if row.kind == "eval" else ""
                yield f"{star}{labels[recipe_hash]}, {row.what}: {cell.note}"


def _print_markdown(titles: list[str], lines: Iterator[list[str]], right: range) -> None:
    def line(cells: list[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"

    echo(line(titles))
    echo(line(["---:" if index in right else "---" for index in range(len(titles))]))
    for row in lines:
        echo(line(row))
