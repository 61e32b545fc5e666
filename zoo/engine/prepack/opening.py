"""Which graph of a package to open: the package's own, or the one over weights that were prepared."""

from __future__ import annotations

import contextlib
import logging
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.engine.machine import free_memory
from zoo.engine.prepack import store
from zoo.engine.prepack.making import SOURCE, can_prepare, grows_to, make
from zoo.engine.prepack.store import find, limit
from zoo.errors import ZooError
from zoo.package.memory import OPENING

if TYPE_CHECKING:
    from zoo.package.folder import Package

WHEN = "ZOO_PREPACK"
"""Environment: ``auto`` prepares the weights of larger packages after they were first opened, in the background, and
at once where they would not fit memory; ``always`` at once; ``never`` not at all."""
SMALLEST = 2**28
"""Bytes of a package below which opening is quick and small enough."""
_log = logging.getLogger(__name__)


def mode() -> str:
    """Read when weights are prepared.

    Raises:
        UsageError: the environment says something else.
    """
    return store.when(WHEN)


def graph_to_open(package: Package, *, background: bool = True) -> Path:
    """Choose the graph, and prepare weights where that is due.

    Args:
        background: weights may be prepared by another process meanwhile.

    Raises:
        ZooError: the package fits memory neither as it is nor mapped.
    """
    own = package.path / SOURCE
    when = mode()
    size = sum(record.size for record in package.manifest.files.values())
    if when == "never" or (when == "auto" and size < SMALLEST):
        return own
    found = find(package)
    if found is not None:
        return found
    needed, free = size * OPENING.get(package.manifest.recipe.precision, 1.0), free_memory()
    if when == "always" and can_prepare(package):
        return make(package)
    if needed <= free:
        if background and can_prepare(package) and grows_to(package) <= limit():
            start(package.path)
        return own
    name, sizes = package.path.name, f"takes {needed / 1e9:.1f} GB of memory, and {free / 1e9:.1f} GB are free"
    if not can_prepare(package):
        raise ZooError(f"{name}: opened, it {sizes}; build it with fewer bits a weight")
    _log.warning("%s: opened, it %s; its weights are prepared to be mapped from disk instead, once", name, sizes)
    try:
        return make(package)
    except ZooError as error:
        raise ZooError(f"{name}: opened, it {sizes}; and it cannot be mapped: {error}") from None


def start(folder: Path) -> None:
    """Prepare a package's weights in a process of its own, which runs only when nothing else wants to."""
    with contextlib.suppress(OSError):
        subprocess.Popen(
            [sys.executable, "-m", "zoo.engine.prepack", str(folder.resolve())],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
