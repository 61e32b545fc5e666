"""``zoo new``: a plugin project that installs, passes its tests, and marks what only its author knows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zoo import hookimpl

if TYPE_CHECKING:
    import typer

ZOO_API = 1


@hookimpl
def register_commands(app: typer.Typer) -> None:
    from zoo_scaffold.command import new

    app.command()(new)
