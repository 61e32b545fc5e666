"""``zoo serve``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import BaseModel

from zoo.cli.options import DRAFT_HELP, GIVEN, KV_HELP, Precision, TargetCommand, with_options
from zoo.declarations.memory import KV
from zoo.errors import UsageError
from zoo_server.settings import ServerSettings

SHARED = frozenset({"models", "host", "port", "api_key", "precision", "engine"})
"""Options that every engine takes."""
ELSEWHERE = frozenset({"weights", "revision"})
"""Options only for engines that serve original weights."""


class EngineCommand(TargetCommand):
    """A command that also takes the options of the engine that ``--engine`` names."""

    selector = "--engine"
    default = None

    def options_of(self, target: str) -> type[BaseModel]:
        """Return the options model of the named engine."""
        from zoo.declarations.base import Value
        from zoo.plugins import host
        from zoo.stages.opening import engine_names
        from zoo_server.elsewhere import engine, server_names

        registry = host().registry
        if target not in server_names(registry) and target in engine_names(registry):
            return Value  # it opens packages, by the options of this command
        engine(registry, target)
        return registry.target(target).Options


@with_options(ServerSettings)
def serve(
    ctx: typer.Context,
    models: Annotated[
        list[str],
        typer.Argument(metavar="MODEL|PACKAGE...", help="Built models, package folders, or oci:// and hf: addresses."),
    ],
    host: Annotated[
        str, typer.Option(help="Address to listen on; by default only this machine can connect.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(metavar="P", min=0, max=65535, help="Port; 0 picks a free one.")] = 8000,
    api_key: Annotated[
        str | None,
        typer.Option(
            metavar="K",
            envvar="ZOO_API_KEY",
            help="Key that clients must send; other users of this machine can see it here.",
        ),
    ] = None,
    precision: Precision = None,
    engine: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="What opens the package, or another server for original weights; `--engine NAME --help` shows its "
            "options too.",
        ),
    ] = None,
    weights: Annotated[
        str | None, typer.Option(metavar="DIR|HUB_ID", help="With --engine: where the model's weights are.")
    ] = None,
    revision: Annotated[str | None, typer.Option(help="With --engine: revision of a hub repository.")] = None,
    draft: Annotated[
        str | None, typer.Option(metavar="MODEL|PACKAGE|auto", help=DRAFT_HELP, show_default=False)
    ] = None,
    kv: Annotated[KV, typer.Option(help=KV_HELP)] = "auto",
    alias: Annotated[
        list[str] | None, typer.Option(metavar="NAME=MODEL", help="Another name for a served model; may be repeated.")
    ] = None,
    uds: Annotated[
        Path | None, typer.Option(metavar="PATH", help="Listen on a Unix socket instead of --host and --port.")
    ] = None,
    **limits: Any,
) -> None:
    """Serve packages over HTTP in OpenAI's protocol; print the address, and log JSON lines to stderr."""
    from zoo_share.remote import is_remote
    from zoo_share.stage import pull

    from zoo.plugins import host as plugin_host
    from zoo_server.elsewhere import serves_elsewhere

    registry = plugin_host().registry
    models = [str(pull(model).package.path) if is_remote(model) else model for model in models]
    elsewhere = engine is not None and serves_elsewhere(registry, engine, models[0])
    _check_meant(ctx, engine, elsewhere=elsewhere)
    if engine is not None and elsewhere:
        from zoo_server.by_engine import serve_by_engine

        ServerSettings(api_key=api_key).check()
        if len(models) > 1:
            raise UsageError(f"{engine} serves one model at a time, not {', '.join(models)}")
        serve_by_engine(
            engine,
            models[0],
            host=host,
            port=port,
            api_key=api_key,
            precision=precision,
            weights=weights,
            revision=revision,
            options=ctx.meta.get(GIVEN, {}),
        )
    from zoo.engine.machine import free_memory
    from zoo_server.served import read_aliases, require_server, served_models

    require_server()
    settings = ServerSettings(api_key=api_key, **{**limits, "memory": limits["memory"] or free_memory()})
    settings.check()
    for name in ("host", "port"):
        source = ctx.get_parameter_source(name)
        if uds is not None and source is not None and source.name == "COMMANDLINE":
            raise UsageError(f"--uds and --{name} cannot be used together")
    served = served_models(registry, models, precision, engine, draft, kv)
    settings = replace(settings, aliases=read_aliases(alias or (), models, served))
    from zoo_server.run import run_server

    run_server(served, settings, host, port, uds=uds, announce=typer.echo)


def _check_meant(ctx: typer.Context, engine: str | None, *, elsewhere: bool) -> None:
    """Reject options that do not apply to the engine.

    Raises:
        UsageError: the first such option.
    """
    for name in ctx.params:
        source = ctx.get_parameter_source(name)
        if source is None or source.name != "COMMANDLINE" or name in SHARED:
            continue
        option = f"--{name.replace('_', '-')}"
        if not elsewhere and name in ELSEWHERE:
            raise UsageError(f"{option} needs --engine; packages are served as they are")
        if elsewhere and name not in ELSEWHERE:
            raise UsageError(f"{option} does not apply to {engine}; see zoo serve --engine {engine} --help")
