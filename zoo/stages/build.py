"""Recipe → Package: stream every weight from the checkpoint into its place, then publish the folder."""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.calibration.execute import check_device, choose_device
from zoo.contracts import Checkpoint
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
from zoo.package.publish import clear_up, existing, publish, recover, standing, write_manifest
from zoo.package.running import run_memory
from zoo.package.signals import Signals, listening
from zoo.package.staging import Staging, make_staging
from zoo.package.stream import Progress, WeightStream
from zoo.smoothing.checkpoint import smoothed
from zoo.sources.content import differing, known_digests, remember, settle
from zoo.sources.named import beneath, seen_over
from zoo.sources.recording import Recording
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


def build(
    recipe: Recipe,
    checkpoint: Checkpoint | None,
    output: Path,
    registry: Registry,
    *,
    force: bool = False,
    threads: int | None = None,
    progress: Callable[[Progress], None] | None = None,
    warn: Callable[[str], None] | None = None,
    calibration: NDArray[np.int32] | None = None,
    device: str = "cpu",
) -> Package:
    """Build a package, or find it already built, or continue one that was interrupted.

    Args:
        recipe: what to build.
        checkpoint: the opened source of weights; None where the target needs none.
        output: the package folder to be; absent until it is complete.
        registry: where the parts come from.
        force: replace a package that stands there.
        threads: workers; by default one a core.
        progress: called several times a second, from the calling thread.
        warn: called with each line worth showing.
        calibration: token ids (samples, length) for a quantizer that needs activations.
        device: where such a quantizer computes, ``cpu`` or ``cuda``.

    Raises:
        ZooError: anything that stops it. What is finished stays in the partial folder beside the output, and the same
            call continues from there.
    """
    check_device(device)
    output = Path(os.path.abspath(output))
    warn = warn or logging.getLogger("zoo").warning
    clear_up(output)
    if _already_built(output, recipe, checkpoint, force=force):
        return open_package(output)
    layout = lay_out(recipe, registry)
    account(layout, checkpoint)
    if layout.placed and layout.quantizer.needs_activations:
        if calibration is None:
            raise needs_calibration(f"quantizer {recipe.quantizer.name!r}")
        choose_device(device)
    companions, warnings = companion_files(recipe, checkpoint)
    for line in warnings:
        warn(line)
    forget_tokenizers()
    give_back_memory()
    with locked(output), listening() as signals:
        unfinished = recover(output)
        if _already_built(output, recipe, checkpoint, force=force):  # another process finished it meanwhile
            return open_package(output)
        before = standing(output)
        staging = unfinished or make_staging(output)
        work = _Work(layout, staging, threads or default_threads(), signals, warn, progress, calibration, device)
        records, inputs = _write(work, checkpoint, companions)
        for line in work.notes:
            warn(line)
        manifest = Manifest(
            recipe=recipe,
            recipe_hash=recipe.hash,
            parameters=layout.parameters,
            bits_per_weight=layout.bits_per_weight,
            memory=run_memory(layout),
            files=dict(sorted(records.items())),
            inputs=inputs,
            notes=tuple(work.notes),
            versions=_versions(),
        )
        write_manifest(staging.new, manifest)
        publish(staging, before)
        remember_files(output, manifest)
    return open_package(output)


def file_names(recipe: Recipe, checkpoint: Checkpoint | None, registry: Registry) -> frozenset[str]:
    """Name every file that a build writes but the manifest.

    Raises:
        ZooError: the recipe cannot be built.
    """
    layout, (companions, _) = lay_out(recipe, registry), companion_files(recipe, checkpoint)
    small = companions | dict(layout.files(companions))
    return frozenset(small) | {section.file for section in layout.sections}


def _already_built(output: Path, recipe: Recipe, checkpoint: Checkpoint | None, *, force: bool) -> bool:
    """Tell whether this very recipe stands there, built from these very weights.

    Raises:
        ZooError: something else stands there that must not be replaced.
    """
    manifest = existing(output, recipe.hash, force=force)
    if manifest is None:
        return False
    tensor = differing(checkpoint, manifest.inputs) if checkpoint is not None else None
    if tensor is not None:
        raise ZooError(f"{output}: was built from other weights (tensor {tensor!r} differs); --force replaces it")
    return True


@dataclass(frozen=True)
class _Work:
    """What every step of a build needs."""

    layout: Layout
    staging: Staging
    threads: int
    signals: Signals
    warn: Callable[[str], None]
    progress: Callable[[Progress], None] | None
    calibration: NDArray[np.int32] | None
    device: str
    notes: list[str] = field(default_factory=list)
    """What the manifest is to say."""


def _write(
    work: _Work, checkpoint: Checkpoint | None, companions: dict[str, bytes]
) -> tuple[dict[str, FileRecord], dict[str, str]]:
    """Fill the staging folder with everything but the manifest; return what is in it, and what the tensors were."""
    layout, staging = work.layout, work.staging
    small = companions | dict(layout.files(companions))
    records = {name: FileRecord(size=len(raw), sha256=hashlib.sha256(raw).hexdigest()) for name, raw in small.items()}
    inputs: dict[str, str] = {}
    if checkpoint is not None and layout.placed:
        written, inputs = _write_data(work, checkpoint, layout.headers(companions), sum(map(len, small.values())))
        records |= written
    else:
        staging.clear_new()
    staging.clear_new(set(records))
    for file, raw in small.items():
        write_file(staging.new, file, raw)
    return records, inputs


def _write_data(
    work: _Work, checkpoint: Checkpoint, headers: Mapping[str, bytes], beside: int
) -> tuple[dict[str, FileRecord], dict[str, str]]:
    """Write the data files, from where an earlier build of the same work got to.

    Args:
        headers: what each file begins with, by its name.
        beside: bytes of the other files, which the disk must hold too.

    Returns:
        What they are, and the BLAKE3 of every tensor.
    """
    layout, staging = work.layout, work.staging
    started, stamps, known = time.time_ns(), checkpoint.stamps(), known_digests(checkpoint)
    recording = Recording(beneath(checkpoint), work.threads, known)
    seen = smoothed(layout, seen_over(checkpoint, recording), checkpoint)
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
        _require_space(work.staging, sections, beside)
        data = DataFiles(sections, resumed)
    try:
        with guarded(staging.path):
            journal.begin(resumed.done)
        if layout.quantizer.needs_activations:
            from zoo.calibration.stream import CalibratedStream

            assert work.calibration is not None
            calibrated = CalibratedStream(
                layout, seen, data, staging.new, journal, resumed.done, work.signals, work.calibration, work.device
            )
            calibrated.run(work.progress)
            work.notes.extend(calibrated.notes)
        else:
            stream = WeightStream(layout, seen, data, journal, resumed.done, work.signals)
            with steady_products(layout.recipe):
                stream.run(work.threads, work.progress)
        inputs = recording.digests()
        if checkpoint.stamps() != stamps:
            journal.close(remove=True)
            raise ZooError(f"{checkpoint.name}: its files changed while they were read; build again")
        remember(checkpoint, inputs, stamps, started)
        settle(checkpoint, layout.recipe.weights.digest, inputs)
        checksums = data.finish()
        sizes = {section.path.name: section.file_size for section in sections}
        return {name: FileRecord(size=size, sha256=checksums[name]) for name, size in sizes.items()}, inputs
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
