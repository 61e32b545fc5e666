"""``zoo serve --engine NAME``: run another engine's server, or show its command and how to get it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any, NoReturn

import typer

from zoo.cli.output import echo


def serve_by_engine(
    engine: str,
    model: str,
    *,
    host: str,
    port: int,
    api_key: str | None = None,
    precision: str | None = None,
    weights: str | None = None,
    revision: str | None = None,
    options: Mapping[str, Any] | None = None,
) -> NoReturn:
    """Serve a model's original weights by another engine, and end with its exit code.

    Where its program is not on the PATH the command and how to install it are printed, and the exit code is 1.

    Args:
        engine: the target that serves.
        model: a declared model, a checkpoint folder or a hub id.
        host: the address to listen on.
        port: the port to listen on.
        api_key: what every request must carry.
        precision: by default the first that the engine serves.
        weights: where a declared model's weights are.
        revision: of a hub repository.
        options: the engine's own.
    """
    from zoo.plugins import host as plugin_host
    from zoo.sources.hub_errors import describe_licence
    from zoo.stages.request import Request
    from zoo_server import elsewhere as stage

    registry = plugin_host().registry
    stage.engine(registry, engine)
    request = Request(
        model=model,
        precision=precision or next(iter(registry.target(engine).precisions)),
        weights=weights,
        revision=revision,
        target=engine,
        target_options=options or {},
    )
    prepared = stage.prepare(registry, request, host=host, port=port, api_key=api_key)
    echo(f"zoo: {model} is licensed {describe_licence(prepared.licence)}", err=True)
    note = prepared.licence.note
    if note:
        echo(f"zoo: {' '.join(note.split())}", err=True)
    program = prepared.command.argv[0]
    if not prepared.installed:
        install = prepared.tool.install if prepared.tool is not None else "install it"
        echo(f"To install {program}: {install}. Then:")
        echo(f"  cd {shlex.quote(str(prepared.folder))}")
        echo(f"  {prepared.command.line}")
        echo(f"zoo: {program} is not on the PATH, so nothing is served", err=True)
        raise typer.Exit(1)
    echo(f"zoo: in {prepared.folder}: {prepared.command.line}", err=True)
    code = stage.serve(prepared)
    if code:
        echo(f"zoo: {program} ended with exit code {code}", err=True)
    raise typer.Exit(code)
