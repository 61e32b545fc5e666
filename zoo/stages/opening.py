"""Package → Engine: the one door through which a package is opened to be run, measured, scored or served."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from zoo.errors import ZooError
from zoo.package.folder import Package, open_package
from zoo.stages.prepare import Progress, is_due, prepare, prepare_later
from zoo.units import bytes_text

if TYPE_CHECKING:
    from zoo.engine import Engine
    from zoo.registry import Registry

Preparing = Literal["never", "later", "now"]
"""When weights are prepared: ``never`` takes what is there, ``later`` leaves it to a process in the background, save
that what fits memory no other way is prepared at once; ``now`` prepares before opening."""


def open_engine(
    registry: Registry,
    folder: Path,
    *,
    threads: int | None = None,
    preparing: Preparing = "never",
    warn: Callable[[str], None] | None = None,
    progress: Progress | None = None,
) -> Engine:
    """Open a package, ready to answer.

    Unless weights are to be prepared (or the environment says ``ZOO_PREPACK=always``), nothing is written and no
    process is started.

    Args:
        registry: where the package's target comes from.
        folder: the package.
        threads: workers of a step; by default the physical cores that this process may use.
        preparing: when weights are prepared.
        warn: called with a line that says what is prepared, when, and how to forbid it.
        progress: called before each part of what is prepared at once.

    Raises:
        ZooError: it is no package, a file is missing or changed, or it was built for something else to run.
    """
    from zoo.engine import Engine

    package = open_package(folder)
    target = package.manifest.recipe.target.name
    if target not in registry.targets or not registry.target(target).runnable:
        raise ZooError(f"{package.path.name} was built for the target {target!r}, which this engine does not run")
    _prepare(package, preparing, warn or logging.getLogger("zoo").warning, progress)
    return Engine.open(package, threads=threads)


def _prepare(package: Package, preparing: Preparing, warn: Callable[[str], None], progress: Progress | None) -> None:
    from zoo.engine import prepack

    if preparing == "now":
        prepare(package, progress)
    elif prepack.mode() == "always":
        if prepack.can_prepare(package):
            prepare(package, progress)
    elif preparing == "later":
        if (short := _only_mapped(package)) is not None:
            _prepare_to_map(package, short, warn, progress)
        elif is_due(package):
            warn(f"{package.path.name}: {_what_is_due(package)} in the background; ZOO_PREPACK=never forbids it")
            prepare_later(package)


def _only_mapped(package: Package) -> str | None:
    """Say why a package can be opened only over prepared weights that are not there; None where it is not so."""
    from zoo.engine import prepack

    if prepack.mode() != "auto" or not prepack.is_large(package) or not prepack.can_prepare(package):
        return None
    return prepack.shortage(package) if prepack.find(package) is None else None


def _prepare_to_map(package: Package, short: str, warn: Callable[[str], None], progress: Progress | None) -> None:
    from zoo.engine import prepack

    name, size = package.path.name, bytes_text(prepack.grows_to(package))
    warn(f"{name}: opened, it {short}; its weights are prepared to be mapped from disk instead, once ({size})")
    try:
        prepare(package, progress)
    except ZooError as error:
        raise ZooError(f"{name}: opened, it {short}; and it cannot be mapped: {error}") from None


def _what_is_due(package: Package) -> str:
    from zoo.engine import prepack

    if prepack.find(package) is not None:
        return "row-wise products for long prompts are tried"
    return f"its weights are prepared ({bytes_text(prepack.grows_to(package))} of disk)"
