"""``zoo lock``, ``zoo sync`` and ``zoo ci``: what a team keeps in ``zoo.toml``, and what it runs on every change."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zoo import hookimpl

if TYPE_CHECKING:
    import typer

ZOO_API = 1


@hookimpl
def register_commands(app: typer.Typer) -> None:
    from zoo_team.commands import ci, lock, sync

    for command in (lock, sync, ci):
        app.command()(command)
