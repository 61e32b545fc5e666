"""How every command ends: its errors become one line on stderr and an exit code."""

from __future__ import annotations

import errno
import os
from typing import Any

import typer
from typer.core import TyperGroup
from typer.exceptions import TyperException

from zoo.cli.output import print_notice
from zoo.errors import UsageError, ZooError


def _take_offline(args: list[str]) -> list[str]:
    """Take ``--offline`` out of the arguments, wherever it stands before ``--``, and forbid the network."""
    end = args.index("--") if "--" in args else len(args)
    kept = [arg for arg in args[:end] if arg != "--offline"] + args[end:]
    if len(kept) < len(args):
        os.environ["HF_HUB_OFFLINE"] = "1"  # huggingface_hub reads it when it is first imported
    return kept


class ZooGroup(TyperGroup):
    """A group of commands whose errors are one line: exit code 1 for a failure, 2 for wrong usage."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the group's own options; ``--offline`` may stand after the command too."""
        return super().parse_args(ctx, _take_offline(args))

    def make_context(self, *args: Any, **kwargs: Any) -> Any:
        """Parse the group's own options."""
        try:
            return super().make_context(*args, **kwargs)
        except TyperException as error:
            if type(error).__name__ == "NoArgsIsHelpError":
                raise
            raise _end(error) from None

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return a command, or None; raise where a plugin that ``ZOO_PLUGINS`` leaves out may have it."""
        from zoo.plugins import host

        command = super().get_command(ctx, cmd_name)
        if command is None and any(record.status == "disabled" for record in host().records):
            raise UsageError(
                f"no such command {cmd_name!r}; ZOO_PLUGINS leaves out plugins, which may bring it: see zoo plugins"
            )
        return command

    def invoke(self, ctx: Any) -> Any:
        """Run the chosen command."""
        try:
            return super().invoke(ctx)
        except ZooError as error:
            print_notice(str(error))
            raise typer.Exit(error.exit_code) from error
        except TyperException as error:
            raise _end(error) from None
        except OSError as error:
            if error.errno == errno.EPIPE:
                raise
            where = f": {error.filename}" if error.filename else ""
            print_notice(f"{error.strerror or error}{where}")
            raise typer.Exit(1) from error


def _end(error: TyperException) -> typer.Exit:
    """Describe a wrong command line in one line."""
    message = error.format_message() if hasattr(error, "format_message") else str(error)
    print_notice(message)
    return typer.Exit(int(getattr(error, "exit_code", 2)))
