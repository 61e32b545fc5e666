"""``zoo lock``, ``zoo sync`` and ``zoo ci``: what a team keeps."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from zoo.cli.output import echo, print_notice
from zoo.errors import UsageError, ZooError, unknown
from zoo_team.workspace import LOCK, WORKSPACE, Lock, Workspace

if TYPE_CHECKING:
    from zoo.stages.kit import Check

FILE = Annotated[Path, typer.Option("--file", metavar="FILE", help="Path of zoo.toml; zoo.lock lies beside it.")]


def lock(file: FILE = WORKSPACE) -> None:
    """Pin every model of zoo.toml in zoo.lock: weights, revision, recipe, and the package's bytes if it is built."""
    from zoo.package.files import write_whole
    from zoo.plugins import host
    from zoo_team.lock import lock_text, make_lock, read_workspace

    made = make_lock(host(), read_workspace(file))
    place = file.with_name(LOCK.name)
    before = place.read_bytes() if place.is_file() else b""
    text = lock_text(made).encode()
    if text != before:
        write_whole(place, text, replace=True)
    echo(f"{place}: {len(made.model)} models, {'changed' if text != before else 'as it was'}")


def sync(
    file: FILE = WORKSPACE,
    check: Annotated[bool, typer.Option("--check", help="Build nothing; print what drifted and exit with 1.")] = False,
    threads: Annotated[int | None, typer.Option(min=1, max=64, help="Worker threads; by default one a core.")] = None,
) -> None:
    """Build exactly what zoo.lock pins, in the order of zoo.toml; packages that match stay, the others are rebuilt."""
    from zoo.cli.progress import build_progress
    from zoo.plugins import host
    from zoo_team import lock as stage

    workspace, locked = stage.read_workspace(file), stage.read_lock(file.with_name(LOCK.name))
    if check:
        lines = list(stage.drift(host().registry, workspace, locked))
        for line in lines:
            echo(line)
        if lines:
            raise typer.Exit(1)
        echo(f"{len(workspace.model)} models, all as they were locked")
        return

    def done(synced: stage.Synced) -> None:
        echo(f"{'already built' if synced.already_built else 'built'} {synced.model.label}: {synced.path}")

    with build_progress() as progress:
        stage.sync(host().registry, workspace, locked, threads=threads, progress=progress, done=done, warn=print_notice)


def ci(
    tier: Annotated[str, typer.Option(help="declare, tiny or real; each does what those before it do.")] = "tiny",
    plugin: Annotated[list[str] | None, typer.Option("--plugin", help="Only this plugin; may be repeated.")] = None,
    changed: Annotated[
        str | None, typer.Option(metavar="COMMIT", help="Only plugins whose files differ from this commit.")
    ] = None,
    file: FILE = WORKSPACE,
    junit: Annotated[Path | None, typer.Option(metavar="FILE", help="Write JUnit XML.")] = None,
    markdown: Annotated[Path | None, typer.Option(metavar="FILE", help="Write a summary in Markdown.")] = None,
    workers: Annotated[
        str | None, typer.Option(metavar="N|ADDRESS", help="Processes, or a Ray cluster (ray://…) that scores.")
    ] = None,
) -> None:
    """Check every declared family, and what zoo.toml lists; exit code 1 if something fails."""
    from zoo.plugins import host
    from zoo.stages.kit import run_kit
    from zoo_team import ci as stage

    if tier not in stage.TIERS:
        raise unknown("tier", tier, stage.TIERS)
    if workers is not None and not workers.isdecimal() and not workers.startswith("ray://"):
        raise UsageError(f"--workers takes a number or ray://…, not {workers!r}")
    workspace, locked = Workspace(), Lock(zoo="")
    if file.is_file() or tier == "real":
        workspace, locked = stage.read_both(file)
    checks = stage.plugin_checks(host())
    if workspace.model:
        checks += stage.lock_checks(workspace, locked)
    chosen = stage.choose_plugins(host(), plugin or (), changed)
    kind: Literal["declare", "tiny"] = "declare" if tier == "declare" else "tiny"
    count = int(workers) if workers is not None and workers.isdecimal() else _cores()
    checks += run_kit(chosen, kind, workers=count, say=lambda line: echo(line, err=True))
    if tier == "real":
        checks += stage.real_checks(host().registry, workspace, locked, workers=workers, say=print_notice)
    for path, write in ((junit, stage.junit), (markdown, stage.markdown)):
        if path is not None:
            path.write_text(write(checks), encoding="utf-8")
    _finish(checks)


def _cores() -> int:
    from zoo.reports import machine_kind

    return machine_kind().cores


def _finish(checks: list[Check]) -> None:
    failed = [check for check in checks if check.status == "failed"]
    for check in failed:
        last = (check.message.strip().splitlines() or ["failed"])[-1]
        echo(f"FAILED {check.suite}: {check.name}: {last.strip()}")
    skipped = sum(check.status == "skipped" for check in checks)
    passed = len(checks) - len(failed) - skipped
    echo(f"{passed} passed, {len(failed)} failed, {skipped} skipped")
    if failed:
        raise typer.Exit(1)
    if not checks:
        raise ZooError("there was nothing to check")
