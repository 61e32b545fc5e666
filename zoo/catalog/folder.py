"""The catalog's folder: complete or absent, and never in the place of something else."""

from __future__ import annotations

import os
from collections.abc import Mapping
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


def marker(files: Mapping[str, bytes]) -> bytes:
    """Make the file by which a later run knows the folder and everything in it as its own."""
    return "\n".join([_FIRST_LINE, *sorted(files), ""]).encode()


def publish_site(output: Path, files: Mapping[str, bytes]) -> None:
    """Write the files beside the folder and give them its name in one step.

    Raises:
        ZooError: the folder holds something that no catalog made, or cannot be written.
    """
    output = check_place(output)
    with locked(output):
        recover(output, CATALOG)
        check_replaceable(output)
        before, staging = standing(output, CATALOG), make_staging(output)
        with guarded(staging.new):
            for folder in sorted({str(Path(name).parent) for name in files}):
                (staging.new / folder).mkdir(parents=True, exist_ok=True)
            for name, content in files.items():
                (staging.new / name).write_bytes(content)
            (staging.new / MARKER).write_bytes(marker(files))
        publish(staging, before, CATALOG)


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
