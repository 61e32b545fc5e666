"""``zoo rm``."""

from __future__ import annotations

from typing import Annotated

import typer

from zoo.cli.options import Precision
from zoo.cli.output import echo
from zoo.units import bytes_text


def remove(
    package: Annotated[str, typer.Argument(help="A package folder, or a model with a package in the store.")],
    precision: Precision = None,
) -> None:
    """Remove a package and its caches; any other folder is refused."""
    from zoo.engine.prepack import clear
    from zoo.package.folder import read_manifest
    from zoo.package.publish import remove_package
    from zoo.plugins import host
    from zoo.stages.subject import locate_package

    path = locate_package(host().registry, package, precision)
    recipe_hash = read_manifest(path).recipe_hash
    size = remove_package(path) + clear(recipe_hash)
    echo(f"removed {path}: {bytes_text(size)}")
