"""``zoo plugins``."""

from __future__ import annotations

from typing import Annotated

import typer

from zoo.cli.output import print_json, print_table


def plugins(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """List the plugins: what each brought, and which failed and why."""
    from zoo.plugins import host

    records = host().records
    if as_json:
        print_json(records)
        return
    print_table(
        ["NAME", "DISTRIBUTION", "VERSION", "STATUS", "REGISTERED"],
        [
            (
                one.name,
                one.distribution or "-",
                one.version or "-",
                one.status,
                one.error or "; ".join(f"{kind}: {', '.join(names)}" for kind, names in one.registered.items()) or "-",
            )
            for one in records
        ],
    )
