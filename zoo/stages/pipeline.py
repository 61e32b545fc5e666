"""Request → Plan or Package: resolve, calibrate, mix, take over levels, plan or build. Whoever builds goes this way."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from zoo.contracts import reads_weights
from zoo.declarations.plan import Plan
from zoo.declarations.recipe import Recipe
from zoo.errors import UsageError
from zoo.package.folder import MANIFEST, Package
from zoo.package.publish import remove_damaged_package
from zoo.package.store import output_folder
from zoo.package.stream import Progress
from zoo.registry import Registry
from zoo.stages.calibrate import calibrated
from zoo.stages.mixed import MixedChoice, mixed
from zoo.stages.plan import plan as make_plan
from zoo.stages.request import Request
from zoo.stages.resolve import Resolved, resolve
from zoo.stages.takeover import with_levels
from zoo.toolchain import ToolCommand


@dataclass(frozen=True)
class Pinned:
    """A build of which everything is decided, before a weight is quantized."""

    resolved: Resolved
    tokens: NDArray[np.int32] | None
    """Calibration samples, (samples, length); None where nothing is calibrated."""
    mixed: MixedChoice | None
    """What ``--mixed auto`` chose."""

    @property
    def recipe(self) -> Recipe:
        return self.resolved.recipe

    def reads_weights(self, registry: Registry) -> bool:
        """Tell whether the build reads weights, or writes documents alone."""
        return reads_weights(registry.target(self.recipe.target.name), self.recipe.target.options)

    def output(self, output: Path | None) -> Path:
        """The package folder: the one asked for, or the recipe's place in the store."""
        return output if output is not None else output_folder(self.recipe)


@dataclass(frozen=True)
class Built:
    """A package, and how it came to be there."""

    package: Package
    already_built: bool
    commands: Sequence[ToolCommand] = ()
    """What takes it further, for a target that writes another tool chain's files."""


def pin(
    registry: Registry,
    request: Request,
    *,
    data: Path | None = None,
    device: str = "cpu",
    planning: bool = False,
    progress: Callable[[int, int], None] | None = None,
    warn: Callable[[str], None] | None = None,
) -> Pinned:
    """Decide everything that a request leaves open.

    Args:
        data: a folder that holds the calibration dataset's files already.
        device: where weights are measured for ``--mixed auto``, ``cpu`` or ``cuda``.
        planning: read headers only; weights that are not on this machine stay where they are.
        progress: called with how many of how many passes of that measurement are done.
        warn: called with each line worth showing; by default they are logged.

    Raises:
        UsageError: an unknown name or a value out of range.
        ZooError: the weights or the data are not there, or contradict the declaration.
    """
    with told(warn):
        resolved = resolve(registry, request, headers_only=planning)
        resolved, tokens = calibrated(registry, request, resolved, data=data, planning=planning)
        resolved, choice = mixed(
            registry, request, resolved, tokens, device=device, planning=planning, progress=progress
        )
        resolved = with_levels(registry, request, resolved)
    return Pinned(resolved, tokens, choice)


class _Teller(logging.Handler):
    """Hands warnings of one thread to whoever asked for them."""

    def __init__(self, warn: Callable[[str], None]) -> None:
        super().__init__(logging.WARNING)
        self._warn, self._thread = warn, threading.get_ident()

    def emit(self, record: logging.LogRecord) -> None:
        """Hand a warning over."""
        if record.thread == self._thread:
            self._warn(record.getMessage())


@contextlib.contextmanager
def told(warn: Callable[[str], None] | None) -> Iterator[None]:
    """Hand what the stages inside warn of to ``warn``; None leaves it to the log alone."""
    if warn is None:
        yield
        return
    logger, teller = logging.getLogger("zoo"), _Teller(warn)
    logger.addHandler(teller)
    try:
        yield
    finally:
        logger.removeHandler(teller)


def plan(registry: Registry, pinned: Pinned, output: Path | None = None, *, threads: int | None = None) -> Plan:
    """Work out what a pinned build reads, writes and costs.

    Raises:
        UsageError: its target reads no weights.
        ZooError: see ``zoo.stages.plan.plan``.
    """
    recipe, checkpoint = pinned.recipe, pinned.resolved.checkpoint
    if not pinned.reads_weights(registry):
        raise UsageError(f"target {recipe.target.name!r} reads no weights, so there is nothing to plan")
    assert checkpoint is not None  # the target needs weights, so their headers were opened
    missing = checkpoint.download_bytes
    return make_plan(recipe, checkpoint, registry, pinned.output(output), threads=threads, download_bytes=missing)


def build(
    registry: Registry,
    pinned: Pinned,
    output: Path | None = None,
    *,
    device: str = "cpu",
    threads: int | None = None,
    force: bool = False,
    progress: Callable[[Progress], None] | None = None,
    warn: Callable[[str], None] | None = None,
) -> Built:
    """Build what is pinned, or find it built.

    Args:
        output: the package folder to be; by default the recipe's place in the store.
        device: where calibration computes, ``cpu`` or ``cuda``.
        threads: workers; by default one a core.
        force: replace a package that stands there.
        progress: told several times a second how far it is.
        warn: called with each line worth showing.

    Raises:
        ZooError: anything that stops it.
    """
    folder = pinned.output(output)
    if not pinned.reads_weights(registry):
        from zoo.stages.documents import write_documents

        written = write_documents(pinned.resolved, folder, registry, force=force)
        return Built(written.package, written.already_built, written.commands)
    from zoo.stages.build import build as build_package

    # A build refuses another recipe's package, so what stands there without force is this very one.
    already_built = (folder / MANIFEST).is_file() and not force
    package = build_package(
        pinned.recipe,
        pinned.resolved.checkpoint,
        folder,
        registry,
        force=force,
        threads=threads,
        progress=progress,
        warn=warn,
        calibration=pinned.tokens,
        device=device,
    )
    return Built(package, already_built)


def remove_damaged_build(registry: Registry, pinned: Pinned) -> None:
    """Remove a pinned build from the store if its manifest is missing or unreadable.

    Raises:
        ZooError: the folder holds more than such a build writes.
    """
    folder = pinned.output(None)
    if pinned.reads_weights(registry):
        from zoo.stages.build import file_names

        names = file_names(pinned.recipe, pinned.resolved.checkpoint, registry)
    else:
        from zoo.stages.documents import document_names

        names = document_names(pinned.resolved, registry, folder)
    remove_damaged_package(folder, names)
