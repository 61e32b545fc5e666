"""``zoo catalog``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from zoo.cli.output import echo, print_json
from zoo.units import bytes_text


def catalog(
    output: Annotated[Path, typer.Option("-o", "--output", metavar="DIR", help="Folder to write the pages into.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print what was written as JSON.")] = False,
) -> None:
    """Write the zoo as web pages, from the declarations and the recorded reports."""
    from zoo.plugins import host
    from zoo.stages.catalog import parts_by_plugin, write_catalog

    loaded = host()
    made = write_catalog(loaded.registry, output, brought_by=parts_by_plugin(loaded.records), reports=None)
    if as_json:
        print_json({"catalog": str(output), **made})
        return
    echo(f"wrote {output / 'index.html'}: {made['models']} models of {made['families']} families")
    echo(f"{made['files']} files, {bytes_text(made['bytes'])}", err=True)
