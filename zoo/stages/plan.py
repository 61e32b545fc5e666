"""Recipe → Plan: what a build reads, writes and costs, from headers alone."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from zoo.contracts import Checkpoint
from zoo.declarations.plan import Plan, TensorRead, TensorWrite
from zoo.declarations.recipe import Recipe
from zoo.package.account import account
from zoo.package.companions import companion_files
from zoo.package.layout import Layout, lay_out
from zoo.package.memory import build_memory
from zoo.package.running import RUN_BASE, RUN_CONTEXT, run_memory
from zoo.registry import Registry
from zoo.stages.storage import describe_storage

_MANIFEST_BYTES, _INPUT_BYTES = 4096, 110
"""What ``zoo.json`` takes, and each tensor's name and digest in it: about."""


def default_threads() -> int:
    """Count the threads that a build uses: one a core, at most eight, where memory traffic is the limit anyway."""
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:
        cores = os.cpu_count() or 1
    return max(1, min(8, cores))


def plan(
    recipe: Recipe,
    checkpoint: Checkpoint | None,
    registry: Registry,
    output: Path,
    *,
    threads: int | None = None,
    download_bytes: int = 0,
) -> Plan:
    """Work out a build before a weight is read.

    Args:
        recipe: what to build.
        checkpoint: the opened source; only its headers and the files beside the weights are read.
        registry: where the parts come from.
        output: the package folder to be.
        threads: as the build will be asked for.
        download_bytes: what has to be fetched first.

    Raises:
        ZooError: the target refuses the recipe, or a tensor is missing, unused, misshapen or of an unreadable type.
    """
    layout = lay_out(recipe, registry)
    account(layout, checkpoint)
    files, _ = companion_files(recipe, checkpoint)
    small = files | dict(layout.files(files))
    begun = sum(len(header) for header in layout.headers(files).values())
    written = begun + layout.data_size + sum(len(content) for content in small.values())
    written += _MANIFEST_BYTES + _INPUT_BYTES * len(checkpoint.tensors if checkpoint is not None else ())
    context = min(RUN_CONTEXT, recipe.architecture.context_length)
    reads = _reads(layout, checkpoint)
    memory = run_memory(layout)
    return Plan(
        recipe=recipe,
        recipe_hash=recipe.hash,
        output=output.name,
        steps=_steps(layout, checkpoint, recipe, download_bytes, files),
        reads=tuple(reads),
        writes=tuple(
            TensorWrite(
                name=f"{array.parameter.name}.{array.array}",
                dtype=array.dtype,
                shape=array.shape,
                file=array.file,
                offset=array.offset,
                nbytes=array.nbytes,
            )
            for array in layout.arrays
        ),
        **describe_storage(checkpoint, layout).model_dump(),
        parameters=layout.parameters,
        bits_per_weight=layout.bits_per_weight,
        download_bytes=download_bytes,
        read_bytes=_bytes_read(reads, checkpoint),
        write_bytes=written,
        peak_memory_bytes=build_memory(layout, checkpoint, threads or default_threads(), files),
        disk_cache_bytes=download_bytes,
        disk_output_bytes=written,
        run_memory_bytes=RUN_BASE + memory.running(context) if memory is not None else 0,
        run_int8_kv_bytes=RUN_BASE + memory.kept("int8").running(context) if memory is not None else 0,
        run_context=context,
    )


def _bytes_read(reads: Sequence[TensorRead], checkpoint: Checkpoint | None) -> int:
    """Count what is read of the files: what the tensors take, or all of the files where these store them smaller."""
    total = sum(read.nbytes for read in reads)
    stored = sum(stamp[2] for stamp in checkpoint.stamps().values()) if checkpoint is not None else 0
    return min(total, stored or total)


def _reads(layout: Layout, checkpoint: Checkpoint | None) -> list[TensorRead]:
    if checkpoint is None:
        return []
    stored = (placed.parameter for placed in layout.placed if not placed.parameter.derived)
    names: Iterable[str] = dict.fromkeys(each.tensor for parameter in stored for each in parameter.slices)
    infos = [checkpoint.tensors[name] for name in names]
    return [
        TensorRead(name=tensor.name, dtype=tensor.dtype, shape=tensor.shape, nbytes=tensor.nbytes) for tensor in infos
    ]


def _steps(
    layout: Layout, checkpoint: Checkpoint | None, recipe: Recipe, download_bytes: int, files: Mapping[str, bytes]
) -> tuple[str, ...]:
    steps = []
    if download_bytes:
        steps.append(f"download {recipe.weights.hub or recipe.model}")
    if checkpoint is not None and layout.placed:
        steps.append(f"read {len(checkpoint.tensors)} tensors of {checkpoint.name}, slab by slab")
        kept = sum(layout.takes_over(placed.parameter) for placed in layout.placed)
        if kept:
            steps.append(f"take over the levels of {kept} weights as {checkpoint.name} stores them")
        if recipe.calibration is not None and layout.quantizer.needs_activations:
            pin = recipe.calibration
            seen = "the original weights" if pin.activations == "original" else "the layers that are stored"
            steps.append(f"send {pin.samples} samples of {pin.sequence_length} tokens through {seen}, layer by layer")
        steps.append(f"store {len(layout.placed) - kept} weights by {recipe.quantizer.name} as {recipe.precision}")
    steps.append(f"write {', '.join(name for name, _ in layout.files(files))} for {recipe.target.name}")
    steps.append("check and publish the folder")
    return tuple(steps)
