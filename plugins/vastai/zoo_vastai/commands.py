"""``zoo vamc``: what this plugin adds to the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from zoo import ZooError, command_line, one_line, printable

vamc = typer.Typer(no_args_is_help=True, help="Work with the vendor's compile files.")


@vamc.callback()
def _group() -> None:
    """Work with the vendor's compile files."""


@vamc.command("import")
def import_(
    paths: Annotated[list[Path], typer.Argument(metavar="PATH...", help="Compile files, or folders of them.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for the declarations.")] = Path(),
    checkpoints: Annotated[
        list[Path] | None,
        typer.Option(metavar="DIR", help="A folder of checkpoints by name; their config.json is enough."),
    ] = None,
    family: Annotated[str | None, typer.Option(help="One family for all; by default vamc-FAMILY.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace declarations that are there.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Write family declarations from existing compile files, and report what is wrong with the files.

    Exit code 1 where a file was not taken over or contradicts itself; the declarations of the others are written.
    """
    from zoo import host
    from zoo_vastai.declaring import write_family
    from zoo_vastai.importing import import_files

    imported = import_files(paths, host().registry, checkpoints or [], family)
    written = [write_family(one, output, force=force) for one in imported.families.values()]
    if as_json:
        findings = [{"file": one.file, "kind": one.kind, "message": one.message} for one in imported.findings]
        report = {
            "files": imported.files,
            "declarations": [str(path) for path in written],
            "findings": findings,
            "commands": imported.commands,
        }
        typer.echo(json.dumps(report, indent=2, ensure_ascii=False))
    else:
        for one in imported.findings:
            typer.echo(one_line(f"{one.file}: {one.kind}: {one.message}"))
        for path in written:
            typer.echo(one_line(f"wrote {path}"))
        if written:
            where = command_line(output.resolve())
            typer.echo(printable(f"Load them with ZOO_PATH={where}; then these commands make the files again:"))
        for file, command in imported.commands.items():
            typer.echo("  " + one_line(f"{command}    # {file}"))
        typer.echo(imported.counts)
    if not imported.families and not imported.findings:
        raise ZooError("no YAML file there")
    if not imported.clean:
        raise typer.Exit(1)
