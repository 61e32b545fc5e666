"""The command line: a complete Typer app on import, the plugins' commands included."""

from __future__ import annotations

from typing import Annotated

import typer

from zoo.cli.group import ZooGroup
from zoo.cli.output import echo

app = typer.Typer(
    name="zoo",
    cls=ZooGroup,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Declare a model family once; list, plan, fetch, build, verify, run and measure its models.",
    epilog="""\b
A first model:
  zoo build zoo-tiny                    a small one that comes with zoo
  zoo run zoo-tiny "Once upon a time"
  zoo serve zoo-tiny                    a page to talk to it, and OpenAI's protocol
  zoo list "llama*"                     what is declared
""",
)


def _version(value: bool) -> None:
    if value:
        from zoo import __version__

        echo(f"zoo {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
    offline: Annotated[
        bool, typer.Option("--offline", help="Do not use the network; works after any command.")
    ] = False,
) -> None:
    """Declare the options before a command; the group has already handled ``--offline``."""


def _add_commands() -> None:
    """Add the core's commands, then those of plugins."""
    from zoo.cli import (
        bench,
        build,
        catalog,
        doctor,
        embed,
        fetch,
        manage,
        plan,
        plugins,
        prepare,
        rm,
        run,
        show,
        validate,
        verify,
    )
    from zoo.cli import eval as evaluation
    from zoo.cli import list as listing
    from zoo.cli import report as reporting
    from zoo.cli.options import TargetCommand
    from zoo.plugins import host

    app.command("list")(listing.list_models)
    app.command("show")(show.show)
    app.command("plan")(plan.plan)
    app.command("plugins")(plugins.plugins)
    app.command("fetch")(fetch.fetch)
    app.command("build", cls=TargetCommand)(build.build)
    app.command("verify")(verify.verify)
    app.command("eval")(evaluation.evaluate)
    app.command("report")(reporting.report)
    app.command("doctor")(doctor.doctor)
    app.command("run")(run.run)
    app.command("embed")(embed.embed)
    app.command("rerank")(embed.rerank)
    app.command("prepare")(prepare.prepare)
    app.command("bench")(bench.bench)
    app.command("rm")(rm.remove)
    app.command("catalog")(catalog.catalog)
    app.command("validate")(validate.validate)
    for command in (manage.install, manage.uninstall, manage.upgrade, manage.search, manage.alias, manage.gc):
        app.command(command.__name__)(command)
    brought = {id(command): command for command in host().registry.commands.values()}
    for plugin_app in brought.values():
        app.registered_commands += plugin_app.registered_commands
        app.registered_groups += plugin_app.registered_groups


_add_commands()
