"""``zoo push``, ``zoo pull`` and ``zoo sbom``: packages in registries and on the hub, signed and described."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zoo import hookimpl

if TYPE_CHECKING:
    import typer

ZOO_API = 1


@hookimpl
def register_commands(app: typer.Typer) -> None:
    from zoo_share.commands import pull, push, sbom

    for command in (push, pull, sbom):
        app.command()(command)
