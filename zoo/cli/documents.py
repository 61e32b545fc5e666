"""``zoo build`` for a target that writes documents: show the files, and run or show the commands that take them."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from zoo.cli.output import echo, print_json

if TYPE_CHECKING:
    from zoo.registry import Registry
    from zoo.stages.resolve import Resolved
    from zoo.toolchain import ToolCommand


def build_documents(
    resolved: Resolved, folder: Path, registry: Registry, *, force: bool, dry_run: bool, as_json: bool
) -> None:
    """Write the documents; run the tools where they are on the PATH, and end with the exit code of one that failed."""
    from zoo.stages.documents import document_target, target_context, work_folder, write_documents
    from zoo.stages.tools import available, run_commands

    recipe = resolved.recipe
    if dry_run:
        target, context = document_target(registry, recipe.target.name), target_context(registry, resolved, folder)
        names = [name for name, _ in target.documents(recipe, context)]
        _report(folder, names, target.commands(recipe, context), recipe, as_json, heading="would write")
        return
    written = write_documents(resolved, folder, registry, force=force)
    path, names = written.package.path, list(written.package.manifest.files)
    runs = available(written.commands)
    if not runs:
        heading = "already built" if written.already_built else "built"
        _report(path, names, written.commands, recipe, as_json, heading=heading)
        return
    work = work_folder(path)
    missing = [command for command in written.commands if not command.run]
    for command in missing:
        echo(f"zoo: not on this machine: {command.purpose} with: {command.line}", err=True)
    for command in written.commands:
        if command.run:
            echo(f"zoo: in {work}: {command.line}", err=True)
    code = run_commands(written.commands, work, recipe.hash, again=force)
    if code:
        failed = f"{_programs(written.commands)} failed with exit code {code}"
        echo(f"zoo: {failed}; its files are in {work}, and the same command tries again", err=True)
        raise typer.Exit(code)
    heading = "already built" if written.already_built else "built"
    _report(path, names, written.commands, recipe, as_json, heading=heading, ran=True)


def _programs(commands: Sequence[ToolCommand]) -> str:
    return ", ".join(dict.fromkeys(command.argv[0] for command in commands if command.run))


def _report(
    folder: Path,
    names: list[str],
    commands: Sequence[ToolCommand],
    recipe: Any,
    as_json: bool,
    *,
    heading: str,
    ran: bool = False,
) -> None:
    from zoo.stages.documents import work_folder

    if as_json:
        print_json(
            {
                "package": str(folder),
                "model": recipe.model,
                "precision": recipe.precision,
                "target": recipe.target.name,
                "recipe_hash": recipe.hash,
                "already_built": heading == "already built",
                "files": names,
                "work": str(work_folder(folder)),
                "commands": [
                    {
                        "argv": list(command.argv),
                        "environment": dict(command.environment),
                        "purpose": command.purpose,
                        "ran": ran and command.run,
                    }
                    for command in commands
                ],
            }
        )
        return
    echo(f"{heading} {folder}: {recipe.precision} for {recipe.target.name}, recipe {recipe.hash[:12]}")
    for name in names:
        echo(f"  {name}")
    if ran:
        echo(f"{_programs(commands)} ran")
        return
    if not commands:
        return
    programs = _programs(commands)
    lead = f"{programs} is not on the PATH, so nothing was run. Where it is:" if programs else "Commands:"
    echo(lead)
    work = shlex.quote(str(work_folder(folder)))
    echo(f"  mkdir -p {work} && cd {work}")
    for command in commands:
        echo(f"  {command.line}")
