"""The catalog's folder: complete or absent, and never in the place of something else."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from zoo.errors import ZooError
from zoo.package.staging import guarded, locked, partial_folder, publish

MARKER = ".zoo-catalog"
_FIRST_LINE = "made by zoo catalog; the files of this folder, which the next run replaces:"


def marker(files: Mapping[str, bytes]) -> bytes:
    """Make the file by which a later run knows the folder and everything in it as its own."""
    return "\n".join([_FIRST_LINE, *sorted(files), ""]).encode()


def publish_site(output: Path, files: Mapping[str, bytes]) -> None:
    """Write the files beside the folder and give them its name in one step.

    Raises:
        ZooError: the folder holds something that no catalog made, or cannot be written.
    """
    output = Path(os.path.abspath(output))
    check_replaceable(output)
    with locked(output):
        check_replaceable(output)
        partial = partial_folder(output)
        with guarded(partial):
            if partial.exists():
                shutil.rmtree(partial)
            partial.mkdir(parents=True)
            for folder in sorted({str(Path(name).parent) for name in files}):
                (partial / folder).mkdir(parents=True, exist_ok=True)
            for name, content in files.items():
                (partial / name).write_bytes(content)
            (partial / MARKER).write_bytes(marker(files))
        publish(partial, output)


def check_replaceable(output: Path) -> None:
    """Refuse a folder that holds anything but an earlier catalog.

    Raises:
        ZooError: naming what stands there.
    """
    if not output.exists() and not output.is_symlink():
        return
    if output.is_symlink() or not output.is_dir():
        raise ZooError(f"{output}: is there and is no folder; choose another -o")
    with guarded(output):
        present = {path.relative_to(output).as_posix() for path in output.rglob("*") if not path.is_dir()}
        if not present and not any(output.iterdir()):
            return
        lines = (output / MARKER).read_text(encoding="utf-8").splitlines() if MARKER in present else []
    if not lines or lines[0] != _FIRST_LINE:
        raise ZooError(f"{output}: holds something that is no catalog; choose another -o")
    foreign = sorted(present - {MARKER, *lines[1:]})
    if foreign:
        raise ZooError(f"{output}: holds {foreign[0]}, which no catalog made; move it away or choose another -o")
