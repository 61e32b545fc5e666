"""``zoo validate``."""

from __future__ import annotations

from typing import Annotated

import typer

from zoo.cli.options import Json
from zoo.cli.output import echo, print_json


def validate(
    subjects: Annotated[
        list[str], typer.Argument(metavar="PATH|PLUGIN...", help="Declaring YAML, folders that hold some, or plugins.")
    ],
    as_json: Json = False,
) -> None:
    """Check declarations: schema, references, targets' rules, contradictions, hub files; exit 1 if one is wrong."""
    from zoo.plugins import host
    from zoo.stages.validate import validate as judge

    judgement = judge(host(), subjects)
    if as_json:
        print_json({"ok": judgement.ok, **judgement.model_dump(mode="json")})
    else:
        for finding in judgement.findings:
            echo(str(finding))
        counts = ", ".join(f"{judgement.count(kind)} {kind}s" for kind in ("error", "warning", "note"))
        echo(f"{len(judgement.files)} declarations: {counts}", err=True)
    if not judgement.ok:
        raise typer.Exit(1)
