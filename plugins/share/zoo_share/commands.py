"""``zoo push``, ``zoo pull`` and ``zoo sbom``: packages in registries and on the hub."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from zoo.cli.options import Json, Precision
from zoo.cli.output import echo, print_json

PLAIN = Annotated[bool, typer.Option("--plain-http", help="Connect to the registry without TLS.")]


def push(
    package: Annotated[str, typer.Argument(help="A package folder or a built model.")],
    location: Annotated[str, typer.Argument(metavar="LOCATION", help="oci://host/repository:tag or hf:org/name.")],
    precision: Precision = None,
    key: Annotated[
        Path | None, typer.Option("--sign", metavar="KEY", help="Sign it with this private key (PEM).")
    ] = None,
    plain_http: PLAIN = False,
) -> None:
    """Push a package to a registry or to the hub, with a model card; --sign KEY signs it."""
    from zoo.cli.progress import step_progress
    from zoo.plugins import host
    from zoo.stages.subject import locate_package
    from zoo_share import stage

    folder = locate_package(host().registry, package, precision)
    with step_progress() as step:
        done = stage.push(host().registry, folder, location, key=key, plain_http=plain_http, step=step)
    echo(f"pushed {folder.name} to {done}")


def pull(
    location: Annotated[str, typer.Argument(metavar="LOCATION", help="oci://host/repository:tag or hf:org/name.")],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="DIR", help="Folder of the new package.")
    ] = None,
    key: Annotated[
        Path | None, typer.Option("--key", metavar="KEY", help="Accept it only if this public key (PEM) signed it.")
    ] = None,
    plain_http: PLAIN = False,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing package.")] = False,
    as_json: Json = False,
) -> None:
    """Pull a package; every file is checked against its manifest first."""
    from zoo.cli.progress import fetch_progress
    from zoo_share import stage

    with fetch_progress() as progress:
        done = stage.pull(location, output, key=key, plain_http=plain_http, force=force, progress=progress)
    manifest = done.package.manifest
    if as_json:
        print_json(
            {
                "package": str(done.package.path),
                "recipe_hash": manifest.recipe_hash,
                "already_there": done.already_there,
                "signed_by": done.signed_by,
            }
        )
        return
    signed = f"signed by {done.signed_by}" if done.signed_by is not None else "signature not checked"
    echo(f"{'already there' if done.already_there else 'pulled'} {done.package.path}: {signed}")


def sbom(
    package: Annotated[str, typer.Argument(help="A package folder or a built model.")],
    precision: Precision = None,
) -> None:
    """Print a package's CycloneDX ML-BOM: the model, its weights, files, tools and licence."""
    from zoo.plugins import host
    from zoo.stages.subject import locate_package
    from zoo_share import stage

    print_json(stage.sbom(locate_package(host().registry, package, precision)))
