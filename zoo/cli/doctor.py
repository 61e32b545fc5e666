"""``zoo doctor``."""

from __future__ import annotations

from typing import Annotated

import typer

from zoo.cli.options import Json
from zoo.cli.output import echo, print_json, print_notice, print_table
from zoo.errors import UsageError


def doctor(
    model: Annotated[str | None, typer.Argument(help="Model to build and run on this machine.")] = None,
    target: Annotated[str, typer.Option(help="Target of the build.")] = "ort",
    precision: Annotated[
        str | None, typer.Option("-p", "--precision", help="Precision of the build; int8 by default.")
    ] = None,
    weights: Annotated[
        str | None, typer.Option(metavar="DIR|HUB_ID", help="Folder or repository of the declared model's weights.")
    ] = None,
    requirements: Annotated[
        bool, typer.Option("--requirements", help="Print the family's tested versions as pinned lines, and end.")
    ] = False,
    newest: Annotated[
        bool,
        typer.Option(
            "--next", help="Try the family's tests with the newest transformers and onnxruntime; say what changed."
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Check this machine: packages, kernels, memory, disk, hub, plugins, tools; exit 1 if MODEL lacks something."""
    from zoo.plugins import host
    from zoo.stages.doctor import diagnose, pinned_requirements

    if requirements:
        if model is None:
            raise UsageError("--requirements needs a MODEL, whose family was tested with those versions")
        for line in pinned_requirements(host().registry, model):
            echo(line)
        return
    if newest:
        if model is None:
            raise UsageError("--next needs a MODEL, whose family's tests are tried")
        _try_newest(host().registry.model(model).declared_in.plugin, as_json=as_json)
        return
    diagnosis = diagnose(host(), model, target, precision=precision, weights=weights)
    if as_json:
        print_json(
            {"model": model, "target": target, "ok": diagnosis.ok, "findings": diagnosis.model_dump()["findings"]}
        )
    else:
        print_table(
            ["CHECK", "SUBJECT", "STATUS", "FOUND", "MEND"],
            [
                (finding.check, finding.subject, finding.status, finding.found, finding.mend or "")
                for finding in diagnosis.findings
            ],
        )
    if not diagnosis.ok:
        raise typer.Exit(1)


def _try_newest(plugin: str, *, as_json: bool) -> None:
    from dataclasses import asdict

    from zoo.stages.upstream import try_newest

    drift = try_newest(plugin, say=print_notice)
    if as_json:
        print_json(asdict(drift))
    else:
        print_table(["LIBRARY", "HERE", "NEWEST"], [(name, *both) for name, both in sorted(drift.versions.items())])
        for check in drift.broken:
            last = (check.message.strip().splitlines() or ["failed"])[-1].strip()
            echo(f"BROKEN {check.name}: {last}")
        for name in drift.mended:
            echo(f"mended {name}")
        echo(f"{drift.checks} checks of plugin {plugin!r}: {len(drift.broken)} broken by the newest versions")
    if drift.broken:
        raise typer.Exit(1)
