"""``zoo list``."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from zoo.cli.options import Json
from zoo.cli.output import print_json, print_table
from zoo.errors import unknown
from zoo.units import count_text

_KEYS: dict[str, Any] = {
    "name": lambda entry: entry.name,
    "params": lambda entry: entry.parameters,
    "context": lambda entry: entry.context_length,
}


def list_models(
    pattern: Annotated[str, typer.Argument(metavar="[GLOB]", help="Only models whose name matches.")] = "*",
    family: Annotated[str | None, typer.Option(help="Only this family (a glob works).")] = None,
    built: Annotated[bool, typer.Option("--built", help="Only models with a package in the store.")] = False,
    results: Annotated[
        bool,
        typer.Option(
            "--results", help="Show the progress of each: declared, builds, parity, verified, scored, served."
        ),
    ] = False,
    fits: Annotated[
        bool, typer.Option("--fits", help="Only precisions that build and run in this machine's free memory and disk.")
    ] = False,
    context: Annotated[
        int, typer.Option(min=1, metavar="N", help="With --fits: length of the context, in tokens.")
    ] = 2048,
    sort: Annotated[str, typer.Option(metavar="name|params|context", help="Order of the list.")] = "",
    as_json: Json = False,
) -> None:
    """List the declared models."""
    from zoo.plugins import host
    from zoo.stages.listing import list_models as listed

    entries = listed(
        host().registry, pattern, family, built_only=built, fits=context if fits else None, results=results
    )
    if sort:
        if sort not in _KEYS:
            raise unknown("order", sort, _KEYS)
        entries.sort(key=_KEYS[sort])
    if as_json:
        print_json(entries)
        return
    if results:
        print_table(
            ["NAME", "FAMILY", "RESULTS"], [(entry.name, entry.family, " → ".join(entry.rungs)) for entry in entries]
        )
        return
    if not sort:
        families = {name: at for at, name in enumerate(dict.fromkeys(entry.family for entry in entries))}
        entries.sort(key=lambda entry: (families[entry.family], entry.parameters))
    print_table(
        ["NAME", "FAMILY", "PARAMS", "ATTENTION", "CONTEXT", "LICENCE", "PRECISIONS", "BUILT"],
        [
            (
                entry.name,
                entry.family,
                count_text(entry.parameters),
                entry.attention,
                str(entry.context_length),
                entry.licence,
                " ".join(entry.precisions),
                " ".join(f"{name} (verified)" if name in entry.verified else name for name in entry.built) or "-",
            )
            for entry in entries
        ],
        right=(2, 4),
        group=None if sort else 1,
    )
