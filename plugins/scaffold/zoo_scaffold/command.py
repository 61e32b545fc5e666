"""``zoo new``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from zoo.cli.output import echo
from zoo.errors import UsageError
from zoo.terminal import command_line


def new(
    name: Annotated[str, typer.Argument(help="Name of the new family or fine-tune.")],
    source: Annotated[
        str | None,
        typer.Option(
            "--from", metavar="DIR|HUB_ID", help="Checkpoint to read numbers, tokens, template and licence from."
        ),
    ] = None,
    fine_tune_of: Annotated[
        str | None, typer.Option(metavar="MODEL", help="Write a fine-tune of this declared model instead.")
    ] = None,
    weights: Annotated[str | None, typer.Option(metavar="DIR|HUB_ID", help="The fine-tune's weights.")] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="The folder, or the fine-tune's file; by default NAME here.")
    ] = None,
) -> None:
    """Create a plugin: a project that installs and passes its tests, or the YAML of a fine-tune."""
    from zoo.plugins import host
    from zoo_scaffold.new import new_family, new_fine_tune

    registry = host().registry
    if fine_tune_of is not None:
        if weights is None or source is not None:
            raise UsageError("a fine-tune takes --weights, not --from")
        file = new_fine_tune(registry, name, fine_tune_of, weights, output or Path(f"{name}.yaml"))
        echo(str(file))
        echo("Loose YAML is found in the folders of ZOO_PATH; a plugin registers it by path.", err=True)
        return
    if weights is not None:
        raise UsageError("--weights goes with --fine-tune-of; a family is read with --from")
    folder = output or Path(name)
    for path in new_family(registry, name, source, folder):
        echo(str(path))
    install = command_line("pip", "install", "-e", f"{folder}[test]")
    checks = f"{command_line('zoo', 'validate', folder)} && {command_line('pytest', folder)}"
    echo(f"Next: {install} && {checks}", err=True)
