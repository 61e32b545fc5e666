"""Package → prepared weights: files that the kernels map as they are."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from zoo.contracts import OWN_ENGINE
from zoo.errors import UsageError, ZooError
from zoo.package.folder import Package, open_package

Progress = Callable[[str, int, int], None]
"""Called with what is done next, and how many of how many parts are done."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """What a package has in the cache of prepared weights."""

    folder: Path
    disk_bytes: int
    """What it takes there."""
    made: bool
    """By this call."""


def prepare(package: Package, progress: Progress | None = None) -> Prepared:
    """Prepare a package's weights for this machine's kernels, unless they are prepared already.

    Args:
        progress: called before each part.

    Raises:
        UsageError: the environment forbids it.
        ZooError: the weights are of a kind that cannot be prepared, or there is no room on the disk.
    """
    from zoo.engine import prepack

    target = package.manifest.recipe.target.name
    if target != OWN_ENGINE:
        raise ZooError(f"{package.path.name} was built for target {target!r}, whose engine has nothing to prepare")
    if prepack.mode() == "never":
        raise UsageError("ZOO_PREPACK=never: what would be prepared would not be used; unset it first")
    there = prepack.find(package) is not None
    folder = prepack.make(package, progress).parent
    return Prepared(folder, prepack.size_of(folder), not there)


def is_due(package: Package) -> bool:
    """Tell whether there is something to prepare that pays and has room on the disk."""
    from zoo.engine import prepack

    if prepack.mode() != "auto" or not prepack.is_large(package) or not prepack.can_prepare(package):
        return False
    return prepack.find(package) is None and prepack.grows_to(package) <= prepack.limit()


def prepare_later(package: Package) -> None:
    """Prepare a package's weights in a process of its own, which runs only when nothing else wants to."""
    with contextlib.suppress(OSError):
        subprocess.Popen(
            [sys.executable, "-m", "zoo.stages.prepare", str(package.path.resolve())],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )


def main(folder: str) -> int:
    """Prepare the weights of a package folder with what processor time is left over; return the exit code."""
    with contextlib.suppress(AttributeError, OSError):
        os.nice(19)
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    try:
        prepare(open_package(Path(folder)))
    except ZooError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
