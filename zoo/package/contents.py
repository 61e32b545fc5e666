"""What zoo made in a folder, and what somebody else put there."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Protocol

from zoo.errors import ZooError
from zoo.package.folder import MANIFEST, read_manifest
from zoo.package.locking import lock_file
from zoo.package.staging import is_staging

_NAMED = 5
"""Names that a message gives."""


class Contents(Protocol):
    """A kind of folder that zoo writes: a package, a catalogue."""

    last: str
    """The file that makes the folder whole: written last, and moved last."""

    def listed(self, folder: Path) -> frozenset[str]:
        """List every file that zoo made in such a folder, ``last`` included, by its path inside.

        Raises:
            ZooError: it is not such a folder.
        """
        ...


class PackageContents:
    """A package: ``zoo.json`` lists its files."""

    last = MANIFEST

    def listed(self, folder: Path) -> frozenset[str]:
        return frozenset(read_manifest(folder).files) | {MANIFEST}


PACKAGE = PackageContents()


def foreign(folder: Path, contents: Contents) -> list[str]:
    """List what a folder holds that zoo did not make, by path inside; a folder's name ends in a slash.

    Raises:
        ZooError: it is not a folder of that kind.
    """
    listed = contents.listed(folder)
    folders = {str(parent) for name in listed for parent in PurePosixPath(name).parents}
    return sorted(_foreign(folder, "", listed, folders))


def _foreign(folder: Path, inside: str, listed: frozenset[str], folders: set[str]) -> Iterator[str]:
    with os.scandir(folder / inside) as entries:
        for entry in entries:
            name = f"{inside}{entry.name}"
            if entry.is_dir(follow_symlinks=False):
                if name in folders:
                    yield from _foreign(folder, f"{name}/", listed, folders)
                elif inside or not is_staging(folder / name, folder.name):
                    yield f"{name}/"
            elif name not in listed and name != lock_file(folder).name:
                yield name


def refuse_foreign(folder: Path, contents: Contents, mend: str) -> None:
    """Refuse to replace or remove a folder that holds anything but what zoo made.

    Raises:
        ZooError: naming what it holds.
    """
    names = foreign(folder, contents)
    if names:
        rest = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
        shown = ", ".join(repr(name)[1:-1] for name in names[:_NAMED])
        raise ZooError(f"{folder}: holds what zoo did not make: {shown}{rest}; move it away, or {mend}")


def is_empty(folder: Path) -> bool:
    """Tell whether a folder holds nothing but what zoo is working on in it."""
    return all(entry.name == lock_file(folder).name or is_staging(entry, folder.name) for entry in folder.iterdir())
