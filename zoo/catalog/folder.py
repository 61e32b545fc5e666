"""The catalog's folder: complete or absent, and never in the place of something else."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from zoo.errors import ZooError
from zoo.package.contents import is_empty, refuse_foreign
from zoo.package.files import guarded
from zoo.package.locking import locked
from zoo.package.publish import clear_up, publish, recover, standing
from zoo.package.staging import make_staging

MARKER = ".zoo-catalog"
_FIRST_LINE = "made by zoo catalog; the files of this folder, which the next run replaces:"
_LONGEST_MARKER = 16 * 2**20


def marker(names: Iterable[str]) -> bytes:
    """Make the file by which a later run knows the folder and everything in it as its own."""
    return "\n".join([_FIRST_LINE, *sorted(names), ""]).encode()


def publish_site(output: Path, files: Iterable[tuple[str, Iterable[bytes]]]) -> tuple[int, int]:
    """Write files beside the folder as they are made, and give them its name in one step.

    Args:
        files: path inside the folder, and the file in pieces.

    Returns:
        How many files, and their bytes.

    Raises:
        ZooError: the folder holds something that no catalog made, or cannot be written.
    """
    output = check_place(output)
    with locked(output):
        recover(output, CATALOG)
        check_replaceable(output)
        before, staging = standing(output, CATALOG), make_staging(output)
        try:
            with guarded(staging.new):
                sizes = _write(staging.new, files)
                (staging.new / MARKER).write_bytes(marker(sizes))
        except BaseException:
            staging.remove()
            raise
        publish(staging, before, CATALOG)
    return len(sizes), sum(sizes.values())


def _write(folder: Path, files: Iterable[tuple[str, Iterable[bytes]]]) -> dict[str, int]:
    """Write files; return the bytes of each."""
    sizes: dict[str, int] = {}
    folders: set[Path] = set()
    for name, pieces in files:
        path = folder / name
        if path.parent not in folders:
            path.parent.mkdir(parents=True, exist_ok=True)
            folders.add(path.parent)
        with path.open("wb") as file:
            sizes[name] = sum(map(file.write, pieces))
    return sizes


def check_place(output: Path) -> Path:
    """Clear up after a catalog that was interrupted, and give the absolute path where one may be written.

    Raises:
        ZooError: the folder holds something that no catalog made.
    """
    output = Path(os.path.abspath(output))
    clear_up(output, CATALOG)
    check_replaceable(output)
    return output


def check_replaceable(output: Path) -> None:
    """Refuse a folder that holds anything but an earlier catalog.

    Raises:
        ZooError: naming what stands there.
    """
    if not output.exists() and not output.is_symlink():
        return
    if output.is_symlink() or not output.is_dir():
        raise ZooError(f"{output}: exists and is not a folder; choose another -o")
    with guarded(output):
        if is_empty(output):
            return
    refuse_foreign(output, CATALOG, "choose another -o")


class CatalogContents:
    """A catalog: its marker lists its pages."""

    last = MARKER

    def listed(self, folder: Path) -> frozenset[str]:
        """List the marker and the pages that it names.

        Raises:
            ZooError: there is no marker, or it is not one.
        """
        try:
            with (folder / MARKER).open(encoding="utf-8") as file:
                lines = file.read(_LONGEST_MARKER).splitlines()
        except (OSError, ValueError):
            lines = []
        if not lines or lines[0] != _FIRST_LINE:
            raise ZooError(f"{folder}: is not empty and not a catalog; choose another -o")
        return frozenset(lines[1:]) | {MARKER}


CATALOG = CatalogContents()
