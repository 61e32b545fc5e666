"""Which graphs of a package are opened: those of the cache where there are some, else the package's own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from zoo.engine import prepack
from zoo.engine.rowwise.record import find
from zoo.errors import UsageError, ZooError

if TYPE_CHECKING:
    from zoo.package.folder import Package

Opened = TypeVar("Opened")


def open_graphs(package: Package, opened: Callable[[Path, Path | None], Opened]) -> Opened:
    """Open a package over prepared weights where there are some, else as it is.

    Args:
        opened: opens the graph, and the row-wise one beside it.

    Raises:
        ZooError: neither can be opened.
    """
    graph = prepack.graph_to_open(package)
    prepared = graph.parent != package.path
    try:
        return opened(graph, find(package) if prepared else None)
    except UsageError:
        raise
    except ZooError:
        if not prepared:
            raise
        prepack.clear(package.manifest.recipe_hash)  # a cache that cannot be opened is none
        return opened(prepack.graph_to_open(package), None)
