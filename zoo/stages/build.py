"""Recipe → Package: stream every weight from the checkpoint into its place, then publish the folder."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.calibration.execute import check_device, choose_device
from zoo.contracts import Checkpoint, Stamp
from zoo.declarations.manifest import FileRecord, Manifest
from zoo.declarations.recipe import Recipe
from zoo.engine.machine import give_back_memory
from zoo.errors import ZooError
from zoo.package.account import account
from zoo.package.companions import companion_files
from zoo.package.datafile import DataFiles, DataSection
from zoo.package.files import guarded, write_file
from zoo.package.folder import Package, open_package, remember_files
from zoo.package.journal import Journal, identity
from zoo.package.layout import Layout, lay_out
from zoo.package.locking import locked
from zoo.package.memory import shared_bytes
from zoo.package.publish import clear_up, existing, publish, recover, standing, write_manifest
from zoo.package.running import run_memory
from zoo.package.signals import Signals, listening
from zoo.package.staging import Staging, make_staging
from zoo.package.stream import Output, Progress, WeightStream
from zoo.smoothing.checkpoint import smoothed
from zoo.sources.content import differing, known_digests, remember, settle
from zoo.sources.named import beneath, seen_over
from zoo.sources.recording import Recording
from zoo.sources.shared import SharedReads
from zoo.stages.choices import needs_calibration
from zoo.stages.plan import default_threads
from zoo.stages.smoothing import steady_products
from zoo.tokenizer.resolve import forget_tokenizers
from zoo.units import bytes_text

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from zoo.registry import Registry

_TOOLS = ("model-zoo-framework", "numpy", "onnx", "onnxruntime")


@dataclass(frozen=True)
class BuildOrder:
    """A package to build."""

    recipe: Recipe
    checkpoint: Checkpoint | None
    """The opened source of weights; None where the target needs none."""
    output: Path
    """The package folder to be; absent until it is complete."""
    calibration: NDArray[np.int32] | None = None
    """Token ids (samples, length) for a quantizer that needs activations."""


def build(
    recipe: Recipe,
    checkpoint: Checkpoint | None,
    output: Path,
    registry: Registry,
    *,
    calibration: NDArray[np.int32] | None = None,
    **building: Any,
) -> Package:
    """Build a package; see ``BuildOrder`` and ``build_together``."""
    (package,) = build_together([BuildOrder(recipe, checkpoint, output, calibration)], registry, **building)
    return package


def build_together(
    orders: Sequence[BuildOrder],
    registry: Registry,
    *,
    force: bool = False,
    threads: int | None = None,
    progress: Callable[[Progress], None] | None = None,
    warn: Callable[[str], None] | None = None,
    device: str = "cpu",
) -> list[Package]:
    """Build packages of the same weights in step, each with its own bytes, or find or continue each.

    Args:
        orders: what to build; all from one checkpoint, which is read once.
        registry: where the parts come from.
        force: replace packages that stand there.
        threads: workers; by default one a core.
        progress: called several times a second, from the calling thread.
        warn: called with each line worth showing.
        device: where a calibrated quantizer computes, ``cpu`` or ``cuda``.

    Raises:
        ZooError: anything that stops it. What is finished stays in the partial folders beside the outputs, and the same
            call continues from there.
    """
    check_device(device)
    orders = [replace(order, output=Path(os.path.abspath(order.output))) for order in orders]
    if any(order.recipe.weights != orders[0].recipe.weights for order in orders):
        raise ZooError(f"{orders[0].recipe.model}: its weights changed while they were opened; build again")
    warn = warn or logging.getLogger("zoo").warning
    for order in orders:
        clear_up(order.output)
    drafts = [_draft(order, registry, device) for order in orders if not _already_built(order, force=force)]
    for line in dict.fromkeys(line for draft in drafts for line in draft.warnings):
        warn(line)
    if drafts:
        forget_tokenizers()
        give_back_memory()
        with contextlib.ExitStack() as locks, listening() as signals:
            for draft in drafts:
                locks.enter_context(locked(draft.order.output))
                unfinished = recover(draft.order.output)
                # Another process may have finished it meanwhile.
                if not _already_built(draft.order, force=force):
                    draft.before = standing(draft.order.output)
                    draft.staging = unfinished or make_staging(draft.order.output)
            drafts = [draft for draft in drafts if draft.staging is not None]
            _write(drafts, _Work(threads or default_threads(), signals, warn, progress, device))
            for draft in drafts:
                if draft.layout.quantizer.needs_activations:
                    for line in draft.notes:
                        warn(line)
                _publish(draft)
    return [open_package(order.output) for order in orders]


@dataclass(eq=False)
class _Draft:
    """A package in the making."""

    order: BuildOrder
    layout: Layout
    companions: dict[str, bytes]
    warnings: Sequence[str]
    before: str | None = None
    """What stood at the output when work began."""
    staging: Staging | None = None
    small: dict[str, bytes] = field(default_factory=dict)
    """The files without weights."""
    records: dict[str, FileRecord] = field(default_factory=dict)
    inputs: dict[str, str] = field(default_factory=dict)
    """What the tensors were."""
    notes: list[str] = field(default_factory=list)
    """What the manifest is to say."""


def _draft(order: BuildOrder, registry: Registry, device: str) -> _Draft:
    """Check an order before anything is written."""
    layout = lay_out(order.recipe, registry)
    account(layout, order.checkpoint)
    if layout.placed and layout.quantizer.needs_activations:
        if order.calibration is None:
            raise needs_calibration(f"quantizer {order.recipe.quantizer.name!r}")
        choose_device(device)
    return _Draft(order, layout, *companion_files(order.recipe, order.checkpoint))


def _publish(draft: _Draft) -> None:
    """Write the manifest, and give the package its name."""
    assert draft.staging is not None
    recipe, layout = draft.order.recipe, draft.layout
    manifest = Manifest(
        recipe=recipe,
        recipe_hash=recipe.hash,
        parameters=layout.parameters,
        bits_per_weight=layout.bits_per_weight,
        memory=run_memory(layout),
        files=dict(sorted(draft.records.items())),
        inputs=draft.inputs,
        notes=tuple(draft.notes),
        versions=_versions(),
    )
    write_manifest(draft.staging.new, manifest)
    publish(draft.staging, draft.before)
    remember_files(draft.order.output, manifest)


def file_names(recipe: Recipe, checkpoint: Checkpoint | None, registry: Registry) -> frozenset[str]:
    """Name every file that a build writes but the manifest.

    Raises:
        ZooError: the recipe cannot be built.
    """
    layout, (companions, _) = lay_out(recipe, registry), companion_files(recipe, checkpoint)
    small = companions | dict(layout.files(companions))
    return frozenset(small) | {section.file for section in layout.sections}


def _already_built(order: BuildOrder, *, force: bool) -> bool:
    """Tell whether this very recipe stands there, built from these very weights.

    Raises:
        ZooError: something else stands there that must not be replaced.
    """
    manifest = existing(order.output, order.recipe.hash, force=force)
    if manifest is None:
        return False
    tensor = differing(order.checkpoint, manifest.inputs) if order.checkpoint is not None else None
    if tensor is not None:
        raise ZooError(f"{order.output}: was built from other weights (tensor {tensor!r} differs); --force replaces it")
    return True


@dataclass(frozen=True)
class _Work:
    """What every step of a build needs."""

    threads: int
    signals: Signals
    warn: Callable[[str], None]
    progress: Callable[[Progress], None] | None
    device: str


def _write(drafts: Sequence[_Draft], work: _Work) -> None:
    """Fill the staging folders with everything but the manifests."""
    for draft in drafts:
        draft.small = draft.companions | dict(draft.layout.files(draft.companions))
        for name, raw in draft.small.items():
            draft.records[name] = FileRecord(size=len(raw), sha256=hashlib.sha256(raw).hexdigest())
    weighty = [draft for draft in drafts if draft.order.checkpoint is not None and draft.layout.placed]
    for calibrated in (False, True):
        if group := [draft for draft in weighty if draft.layout.quantizer.needs_activations == calibrated]:
            _write_data(group, work)
    for draft in drafts:
        assert draft.staging is not None
        draft.staging.clear_new(set(draft.records) if draft in weighty else set())
        for file, raw in draft.small.items():
            write_file(draft.staging.new, file, raw)


def _write_data(drafts: Sequence[_Draft], work: _Work) -> None:
    """Write the data files of packages of the same weights, from where earlier builds of the same work got to."""
    checkpoint = drafts[0].order.checkpoint
    assert checkpoint is not None
    started, stamps, known = time.time_ns(), checkpoint.stamps(), known_digests(checkpoint)
    recording = Recording(beneath(checkpoint), work.threads, known)
    source: Checkpoint = recording
    if len(drafts) > 1:
        source = SharedReads(recording, shared_bytes(drafts[0].layout, checkpoint, work.threads))
    with contextlib.ExitStack() as opened:
        outputs = [opened.enter_context(_opened(draft, source, stamps, work)) for draft in drafts]
        if drafts[0].layout.quantizer.needs_activations:
            from zoo.calibration.together import CalibratedStreams

            tokens = [draft.order.calibration for draft in drafts if draft.order.calibration is not None]
            stream: Any = CalibratedStreams(outputs, work.signals, tokens, work.device)
        else:
            stream = WeightStream(outputs, work.signals)
        with steady_products(draft.order.recipe for draft in drafts):
            stream.run(work.threads, work.progress)
        inputs = recording.digests()
        if checkpoint.stamps() != stamps:
            for output in outputs:
                output.journal.close(remove=True)
            raise ZooError(f"{checkpoint.name}: its files changed while they were read; build again")
        remember(checkpoint, inputs, stamps, started)
        for draft, output in zip(drafts, outputs, strict=True):
            settle(checkpoint, draft.order.recipe.weights.digest, inputs)
            draft.inputs = inputs
            for name, (size, sha256) in output.data.finish().items():
                draft.records[name] = FileRecord(size=size, sha256=sha256)
            others = [other.order.recipe.target.name for other in drafts if other is not draft]
            draft.notes = [f"read in one pass with the package for {name}" for name in others]
            draft.notes += stream.notes(output)


@contextlib.contextmanager
def _opened(draft: _Draft, source: Checkpoint, stamps: Mapping[str, Stamp], work: _Work) -> Iterator[Output]:
    """Open the data files and the journal of a package, and find how far an earlier build got.

    Args:
        source: the checkpoint under its own names, as it is read.
        stamps: the state of its files.
    """
    layout, staging, checkpoint = draft.layout, draft.staging, draft.order.checkpoint
    assert staging is not None
    assert checkpoint is not None
    headers = layout.headers(draft.companions)
    places = [
        [array.file, array.parameter.name, array.array, array.dtype, array.offset, array.nbytes]
        for array in layout.arrays
    ]
    begun = {name: hashlib.sha256(header).hexdigest() for name, header in headers.items()}
    states = {name: stamp[2:4] for name, stamp in stamps.items()}  # a device may be numbered anew between two builds
    journal = Journal(staging.path, identity(layout.recipe.hash, [places, begun], states))
    sections = [
        DataSection(staging.new / section.file, headers[section.file], section.start, section.size)
        for section in layout.sections
    ]
    if journal.exists() and not journal.matches():
        work.warn(
            f"{staging.path.name}: unfinished work on another recipe or on weights that changed since; starting over"
        )
    if not journal.matches():
        staging.clear_new()
    staging.clear_new(set(headers))
    with guarded(staging.new):
        resumed = journal.resume(sections, work.signals.stop)
        if work.signals.stop.is_set():
            raise work.signals.error()
        _require_space(staging, sections, sum(map(len, draft.small.values())))
        data = DataFiles(sections, resumed)
    try:
        with guarded(staging.path):
            journal.begin(resumed.done)
        yield Output(layout, smoothed(layout, seen_over(checkpoint, source), checkpoint), data, journal, resumed.done)
    finally:
        journal.close()
        data.close()


def _require_space(staging: Staging, sections: Sequence[DataSection], beside: int) -> None:
    """Refuse a build that the disk cannot hold before it starts."""
    size = sum(section.file_size for section in sections) + beside
    there = 0
    if hasattr(os.stat_result, "st_blocks"):
        there = sum(section.path.stat().st_blocks * 512 for section in sections if section.path.exists())
    free = shutil.disk_usage(staging.path).free
    if size - there > free:
        raise ZooError(
            f"{staging.path.parent}: {bytes_text(free)} free, but the package takes {bytes_text(size - there)} more; "
            "free some, or choose another -o"
        )


def _versions() -> dict[str, str]:
    import platform
    from importlib.metadata import PackageNotFoundError, version

    versions = {"python": platform.python_version()}
    for name in _TOOLS:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions
