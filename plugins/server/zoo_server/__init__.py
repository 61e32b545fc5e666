"""``zoo serve``: packages over HTTP, in OpenAI's protocol."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zoo import hookimpl

if TYPE_CHECKING:
    import typer

ZOO_API = 1


@hookimpl
def register_commands(app: typer.Typer) -> None:
    from zoo_server.command import EngineCommand, serve

    app.command("serve", cls=EngineCommand)(serve)
