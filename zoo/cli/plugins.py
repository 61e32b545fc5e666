"""``zoo plugins``."""

from __future__ import annotations

from typing import Annotated

import typer

from zoo.cli.output import print_json, print_table


def plugins(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """List the plugins: what each registers, and which failed to load."""
    from zoo.plugins import host

    records = host().records
    if as_json:
        print_json(records)
        return
    print_table(
        ["NAME", "DISTRIBUTION", "VERSION", "STATUS", "REGISTERED"],
        [
            (
                record.name,
                record.distribution or "-",
                record.version or "-",
                record.status,
                record.error
                or "; ".join(f"{kind}: {', '.join(names)}" for kind, names in record.registered.items())
                or "-",
            )
            for record in records
        ],
    )
