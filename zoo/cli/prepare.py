"""``zoo prepare``."""

from __future__ import annotations

from typing import Annotated

import typer

from zoo.cli.options import Json, Precision
from zoo.cli.output import echo, print_json
from zoo.cli.progress import step_progress
from zoo.units import bytes_text


def prepare(
    package: Annotated[str, typer.Argument(metavar="MODEL|PACKAGE", help="A built model or a package folder.")],
    precision: Precision = None,
    as_json: Json = False,
) -> None:
    """Prepare a package's weights for this machine: they are mapped when it is opened.

    The files lie under $ZOO_HOME/prepacked, within the bytes of ZOO_PREPACKED_BYTES; `zoo rm` removes them with the
    package.
    """
    from zoo.package.folder import open_package
    from zoo.plugins import host
    from zoo.stages.prepare import prepare as prepare_weights
    from zoo.stages.subject import find_package

    opened = open_package(find_package(host().registry, package, precision))
    with step_progress() as progress:
        done = prepare_weights(opened, progress)
    if as_json:
        print_json(
            {
                "package": str(opened.path),
                "folder": str(done.folder),
                "bytes": done.disk_bytes,
                "made": done.made,
            }
        )
        return
    echo(
        f"{'prepared' if done.made else 'already prepared'} {opened.path.name}: {bytes_text(done.disk_bytes)} in "
        f"{done.folder}"
    )
