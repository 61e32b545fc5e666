"""Which graph of a package to open: the package's own, or the one over weights that were prepared."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from zoo.engine.kernels import reads_as_stored
from zoo.engine.machine import free_memory
from zoo.engine.prepack.making import can_prepare, source
from zoo.engine.prepack.store import clear, find
from zoo.errors import UsageError, ZooError
from zoo.package.running import opening_bytes, stored_bytes

if TYPE_CHECKING:
    from zoo.package.folder import Package

Opened = TypeVar("Opened")
WHEN = "ZOO_PREPACK"
"""Environment: ``auto`` lets commands that run packages prepare the weights of larger ones; ``always`` prepares the
weights of whatever is opened, Python's calls included; ``never`` neither prepares them nor uses what was prepared."""
SMALLEST = 2**28
"""Bytes of a package below which opening is quick and small enough."""


def mode() -> str:
    """Read from the environment when weights are prepared: ``auto``, ``always`` or ``never``.

    Raises:
        UsageError: it says something else.
    """
    text = os.environ.get(WHEN, "auto")
    if text not in ("auto", "always", "never"):
        raise UsageError(f"{WHEN} is auto, always or never, not {text[:40]!r}")
    return text


def is_large(package: Package) -> bool:
    """Tell whether a package is so large that preparing its weights pays; what is read as stored needs none."""
    return stored_bytes(package.manifest) >= SMALLEST and not reads_as_stored(package.manifest)


def shortage(package: Package) -> str | None:
    """Say in words why a package cannot be opened as it is: how much memory that takes; None where it can."""
    needed, free = opening_bytes(package.manifest), free_memory()
    if needed <= free or reads_as_stored(package.manifest):
        return None
    return f"takes {needed / 1e9:.1f} GB of memory, and {free / 1e9:.1f} GB are free"


def open_graph(package: Package, opened: Callable[[Path], Opened]) -> Opened:
    """Open a package over prepared weights where there are some, else as it is.

    Args:
        opened: opens a graph.

    Raises:
        ZooError: neither can be opened, or the package fits memory only if its weights were prepared, and they are not.
    """
    graph = _choose(package)
    prepared = graph.parent != package.path
    try:
        return opened(graph)
    except UsageError:
        raise
    except ZooError:
        if not prepared:
            raise
        clear(package.manifest.recipe_hash)  # a cache that cannot be opened is of no use
        return opened(_choose(package))


def _choose(package: Package) -> Path:
    own, when = package.path / source(package), mode()
    if when == "never" or reads_as_stored(package.manifest):
        return own
    if (found := find(package)) is not None:
        return found
    if not is_large(package) or (short := shortage(package)) is None:
        return own
    name = package.path.name
    if not can_prepare(package):
        raise ZooError(f"{name}: opened, it {short}; build it with fewer bits a weight")
    command = shlex.join(["zoo", "prepare", str(package.path)])
    raise ZooError(f"{name}: opened, it {short}; prepare its weights, which are then mapped from disk: {command}")
