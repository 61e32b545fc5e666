"""What a package is, byte by byte: the name under which what was measured of it counts."""

from __future__ import annotations

from collections.abc import Mapping

from zoo.declarations.base import digest
from zoo.declarations.manifest import Manifest
from zoo.package.folder import Package
from zoo.package.verified import sha256_of


def stated_contents(manifest: Manifest) -> str:
    """Name the contents that a manifest states."""
    return name_contents({name: record.sha256 for name, record in manifest.files.items()})


def name_contents(hashes: Mapping[str, str]) -> str:
    """Name contents by the SHA-256 of each file."""
    return digest(dict(hashes))


def read_contents(package: Package) -> str:
    """Name the contents that a package has: what is not remembered of a file is read.

    Raises:
        ZooError: a file cannot be read.
    """
    folder = package.path
    return name_contents(
        {name: sha256_of(folder / name, f"{folder.name}/{name}")[0] for name in package.manifest.files}
    )
