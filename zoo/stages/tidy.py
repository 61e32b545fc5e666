"""What zoo keeps beside packages and nothing needs any more: remembered digests, prepared weights, broken-off work."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from zoo.engine import prepack
from zoo.home import packages_folder, zoo_home
from zoo.package.locking import locked
from zoo.package.staging import MARKER, SUFFIX, Staging, is_staging
from zoo.package.store import stored_packages
from zoo.sources.hub import cache_folder

DAY = 86_400.0


@dataclass(frozen=True)
class Leftover:
    """Something that may go."""

    kind: str
    path: Path
    size: int


def leftovers(days: float) -> Iterator[Leftover]:
    """List what was not used for so many days; all of it was made by zoo, and is made again where it is missed.

    Prepared weights of packages in the store stay, whatever their age.
    """
    before = time.time() - days * DAY
    home = zoo_home()
    for kind, folder, pattern in (
        ("digest", home / "digests", "**/*"), ("digest", home / "verified", "*.json"),
        ("evaluation", home / "evaluations", "*.jsonl"),
        ("partial download", cache_folder(), "*/blobs/*.zoo-partial"),
    ):  # fmt: skip
        for path in sorted(folder.glob(pattern)):
            with contextlib.suppress(OSError):
                status = path.lstat()
                if path.is_file() and not path.is_symlink() and max(status.st_mtime, status.st_atime) < before:
                    yield Leftover(kind, path, status.st_size)
    kept = {package.recipe_hash[:16] for package in stored_packages()}
    for path in sorted((home / "prepacked").glob("*-*")):
        if path.name.split("-")[0] not in kept and path.is_dir() and path.stat().st_mtime < before:
            yield Leftover("prepared weights", path, prepack.size_of(path))
    for staging in _stagings(before):
        size = sum(path.lstat().st_size for path in staging.path.rglob("*") if path.is_file())
        yield Leftover("unfinished package", staging.path, size)


def remove(leftover: Leftover) -> bool:
    """Remove one; False where it is in use, or gone."""
    if leftover.kind == "unfinished package":
        staging = Staging(leftover.path, leftover.path.parent / _output(leftover.path))
        try:
            with locked(staging.output):
                if staging.old.exists():
                    return False  # a folder that was taken away waits in it for its name
                staging.remove()
        except Exception:
            return False
        return not leftover.path.exists()
    with contextlib.suppress(OSError):
        shutil.rmtree(leftover.path) if leftover.path.is_dir() else leftover.path.unlink()
        return True
    return False


def _output(path: Path) -> str:
    """The name of the package that a staging folder is for: ``.NAME.RANDOM.zoo-partial``."""
    return path.name.removesuffix(SUFFIX).rpartition(".")[0].removeprefix(".")


def _stagings(before: float) -> Iterator[Staging]:
    for path in sorted(packages_folder().glob(f".*{SUFFIX}")):
        output = path.parent / _output(path)
        if is_staging(path, output.name) and (path / MARKER).stat().st_mtime < before:
            newest = max((entry.lstat().st_mtime for entry in path.rglob("*")), default=0.0)
            if newest < before:
                yield Staging(path, output)
