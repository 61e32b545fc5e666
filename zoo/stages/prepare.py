"""Package → prepared weights: files that the kernels map as they are, and what a trial says of row-wise prompts."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.contracts import OWN_ENGINE
from zoo.errors import UsageError, ZooError
from zoo.package.folder import Package, open_package

if TYPE_CHECKING:
    from zoo.engine.rowwise import Trial

Progress = Callable[[str, int, int], None]
"""Called with what is done next, and how many of how many parts are done."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """What a package has in the cache of prepared weights."""

    folder: Path
    disk_bytes: int
    """What it takes there."""
    made: bool
    """Weights were prepared, or a trial was made, by this call."""
    trial: Trial | None
    """How row-wise products for long prompts came out; None where there is nothing to try, or no room."""
    rowwise: bool
    """Whether long prompts go through them."""


def prepare(package: Package, progress: Progress | None = None) -> Prepared:
    """Prepare a package's weights for this machine's kernels, and try row-wise products for its long prompts.

    What is there already is not made again.

    Args:
        progress: called before each part.

    Raises:
        UsageError: the environment forbids it.
        ZooError: the weights are of a kind that cannot be prepared, or there is no room on the disk.
    """
    from zoo.engine import prepack, rowwise
    from zoo.engine.rowwise.making import make
    from zoo.verify.trial import run_trial

    target = package.manifest.recipe.target.name
    if target != OWN_ENGINE:
        raise ZooError(f"{package.path.name} was built for target {target!r}, whose engine has nothing to prepare")
    if prepack.mode() == "never":
        raise UsageError("ZOO_PREPACK=never: what would be prepared would not be used; unset it first")
    already = prepack.find(package) is not None
    there = already and not rowwise.due(package)
    prepack.make(package, progress)
    if progress is not None and rowwise.due(package):
        progress("trial of row-wise prompts", 0, 1)
    try:
        graph = make(package, run_trial)
    except ZooError:
        if not already:
            raise
        prepack.clear(package.manifest.recipe_hash)  # what an earlier call left cannot be opened, so it is made anew
        return prepare(package, progress)
    folder = prepack.entry(package)
    return Prepared(folder, prepack.size_of(folder), not there, rowwise.recorded(package), graph is not None)


def is_due(package: Package) -> bool:
    """Tell whether there is something to prepare that pays and has room on the disk."""
    from zoo.engine import prepack, rowwise

    if prepack.mode() != "auto" or not prepack.is_large(package) or not prepack.can_prepare(package):
        return False
    if prepack.find(package) is not None:
        return rowwise.due(package)
    return prepack.grows_to(package) <= prepack.limit()


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
