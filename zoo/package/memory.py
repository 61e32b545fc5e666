"""How much memory a build takes, from shapes alone."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from typing import NamedTuple

from zoo.contracts import Checkpoint, CheckpointOver, TensorInfo
from zoo.declarations.dtypes import READABLE
from zoo.declarations.scheme import FloatScheme, Scheme
from zoo.package.layout import NO_FILES, Layout, Placed
from zoo.package.slabs import SLAB, SlabKind, slab_jobs, slab_kinds
from zoo.sources.swapped import held_bytes

SPARE_BUFFERS = 2
"""Finished slabs that wait to be hashed, beside the one that each thread works on."""
_START = 3 * 2**17
"""What the first steps of a stream take: open files, a journal, threads."""
_THREAD = 3 * 2**16
"""What numpy's small temporaries and a thread's stack take."""
_SLAB_JOB = 320
"""What Python keeps for each slab to do."""
_STORED_ARRAY = 512
"""What Python keeps for each array of the data file, in the journal's identity above all."""
_BLOCK_BYTES = 4
"""What a level takes that is taken over: as the source unpacks it, as it is handed on, as it is packed."""
_PRODUCTS = 20 * 2**20
"""What a thread takes to multiply tokens by the weights that it reads: a slab as stored, and the library's buffers."""
_TORCH = 700 * 2**20
"""torch itself, with the samples and the few rows that are in work."""


def resident() -> int:
    """Read the resident set size of this process, bytes; 0 where the system does not say."""
    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError, AttributeError):
        try:
            import psutil

            return int(psutil.Process().memory_info().rss)
        except Exception:
            return 0


class SlabBytes(NamedTuple):
    """What a slab takes while it is in work, bytes."""

    read: int
    """As the checkpoint stores it."""
    laid: int
    """Laid together, heads widened; 0 where its rows are handed on as they are read."""
    stored: int
    """As the package stores it."""
    tile: int
    """The working forms of one tile of it."""


def slab_bytes(layout: Layout, checkpoint: Checkpoint) -> Counter[SlabBytes]:
    """Count the slabs of a build by what they take; a model has few kinds, however many layers."""
    counts: Counter[SlabBytes] = Counter()
    known: dict[object, Counter[SlabKind]] = {}
    smoothing = layout.recipe.smoothing
    fitted = smoothing is not None and smoothing.fit is not None
    for placed in layout.placed:
        row_bytes, taken_over = placed.row_bytes, layout.takes_over(placed.parameter)
        for (rows, dtype, taken), count in slab_kinds(placed.parameter, checkpoint.tensors, known).items():
            tile = _tile_values(placed, rows) * _tile_bytes(placed.scheme, dtype, fitted=fitted) + taken.work
            if taken_over:
                tile = rows * placed.parameter.columns * _BLOCK_BYTES
            counts[SlabBytes(taken.read, taken.laid, rows * row_bytes, round(tile))] += count
    return counts


def _tile_values(one: Placed, rows: int) -> int:
    """Count the values of a tile, as the quantizers cut a slab of so many rows."""
    from zoo.quantizers.slab import TILE

    columns = max(1, one.parameter.columns)
    return max(1, min(rows, TILE // columns)) * columns


def _tile_bytes(scheme: Scheme, dtype: str, *, fitted: bool = False) -> float:
    """Say how many bytes a value takes in the working forms that ``zoo.quantizers.slab`` and ``rtn`` keep of a tile."""
    wide = dtype == "F32"
    if isinstance(scheme, FloatScheme):
        if scheme.dtype == "float32":
            return 5 if wide else 4  # float32; whether each value is finite
        if scheme.dtype == "bfloat16":
            return 0 if dtype == "BF16" else 16  # float32, the sums that round it, bfloat16
        return 0 if dtype == "F16" else 11 if wide else 10  # float32, its magnitude, float16
    size = 4.0 + 40 / scheme.block_size  # float32; ten numbers a block
    if scheme.scale_type != "float32":
        size += 24 / scheme.block_size  # the sums that round a scale
    if scheme.bits == 4:
        size += 14 if fitted else 2  # levels, and pairs of them; weighted values, steps, weighted steps
    if scheme.symmetric:
        size += READABLE[dtype].nbytes  # magnitudes
    elif not wide:
        size += 2  # keys that are ordered as the values
    if not wide and scheme.block_size <= 64 and not (scheme.symmetric and scheme.bits == 8):
        size += 4.5  # the folding of short blocks
    return size


def _largest(counts: Counter[SlabBytes], field: int, buffers: int) -> int:
    """Sum what so many buffers come to hold: each grows to its largest slab, and no slab is in two of them."""
    total = 0
    for slab, count in sorted(counts.items(), key=lambda item: item[0][field], reverse=True):
        total += slab[field] * min(count, buffers)
        buffers -= min(count, buffers)
    return total


def build_memory(
    layout: Layout, checkpoint: Checkpoint | None, threads: int, companions: Mapping[str, bytes] = NO_FILES
) -> int:
    """Predict the peak resident set size of a build, bytes.

    What this process holds now, with the parts imported and the graph made, and what building adds.
    """
    import zoo.quantizers.slab  # noqa: F401  the build needs it and numpy, so their memory counts

    layout.files(companions)
    base = resident()
    return base + (working_memory(layout, checkpoint, threads) if checkpoint is not None and layout.placed else 0)


class _Widened(CheckpointOver):
    """A checkpoint as it is read while channels are rescaled: in float32, derived tensors among the others."""

    def __init__(self, base: Checkpoint, layout: Layout) -> None:
        super().__init__(base)
        self._derived = [parameter for parameter in layout.graph if parameter.derived]

    @cached_property
    def tensors(self) -> Mapping[str, TensorInfo]:
        """The tensors."""
        derived = {
            parameter.name: TensorInfo(parameter.name, "F32", parameter.shape, 4 * parameter.rows)
            for parameter in self._derived
        }
        return {name: replace(info, dtype="F32") for name, info in self.base.tensors.items()} | derived


def working_memory(layout: Layout, checkpoint: Checkpoint, threads: int) -> int:
    """Predict what building adds to the process, bytes.

    Each thread's slab as read, and a tile in its working forms; the stored slabs; the small arrays (scales, zero
    points) of the two parameters in work.
    """
    if layout.quantizer.needs_activations:
        return calibration_memory(layout)
    smoothing = layout.recipe.smoothing is not None
    counts = slab_bytes(layout, _Widened(checkpoint, layout) if smoothing else checkpoint)
    ahead = threads + SPARE_BUFFERS
    read, laid, stored, tile = range(4)
    return (
        held_bytes(checkpoint)
        + sum(_largest(counts, field, threads) for field in (read, laid, tile))
        + _largest(counts, stored, ahead)
        + _side_memory(layout, checkpoint, ahead)
        + bookkeeping(counts.total(), len(layout.arrays))
        + _START
        + threads * (_THREAD + (_PRODUCTS if smoothing else 0))
    )


def shared_bytes(layout: Layout, checkpoint: Checkpoint, threads: int) -> int:
    """Say how much is kept of a checkpoint that is read for several packages in step, bytes: some slabs, or where
    layers are calibrated one by one a layer.
    """
    if not layout.quantizer.needs_activations:
        return 2 * (threads + SPARE_BUFFERS) * SLAB
    layers: Counter[int] = Counter()
    alone = 0
    for parameter in layout.graph:
        size = sum(checkpoint.tensors[each.tensor].nbytes for each in parameter.slices if not parameter.derived)
        if parameter.layer is None:
            alone = max(alone, size)
        else:
            layers[parameter.layer] += size
    return max(alone, *layers.values(), SLAB)


def bookkeeping(slabs: int, arrays: int) -> int:
    """Count what Python keeps of the work to do, bytes."""
    return slabs * _SLAB_JOB + arrays * _STORED_ARRAY


def _side_memory(layout: Layout, checkpoint: Checkpoint, ahead: int) -> int:
    """Count what arrays written whole take: one parameter's, and of the next one's what a few slabs touched."""
    whole = begun = 0
    for placed in layout.placed:
        size = sum(array.nbytes for array in placed.held)
        slabs = (
            sum(1 for _ in slab_jobs(placed.parameter, checkpoint.tensors)) if size > whole or size > begun else ahead
        )
        whole = max(whole, size)
        scattered = any(array.rows == "last" for array in placed.held)
        begun = max(begun, size if scattered else size * min(ahead, slabs) // slabs)
    return whole + begun


def calibration_memory(layout: Layout) -> int:
    """Predict what a calibrated build holds at once, bytes: a layer in float32, of its experts one, its Hessians or the
    factoring of the widest one (itself, its factor and a quarter), the widest stored weight, and what is computed with.
    """
    experts = [parameter for parameter in layout.graph if parameter.experts is not None]
    inside = {each.tensor for parameter in experts for each in parameter.slices}
    # Gate and way up, and the way down; as they were, and as they are stored.
    expert = 2 * 2 * 4 * max((math.prod(parameter.shape[1:]) for parameter in experts), default=0)
    layers: dict[int | None, int] = {}
    hessians: dict[tuple[int | None, str], int] = {}
    widest = stored = 0
    for placed in layout.placed:
        parameter, size = placed.parameter, math.prod(placed.parameter.shape)
        nbytes = sum(array.nbytes for array in placed.arrays)
        if parameter.slices[0].tensor in inside:
            stored = max(stored, nbytes // (parameter.experts or 1))
            widest = max(widest, parameter.columns * parameter.columns * 4)
            continue
        # Outside the layers one weight after the other is large: the embedding, or the head.
        key = parameter.layer
        layers[key] = layers.get(key, 0) + size * 4 if key is not None else max(layers.get(key, 0), size * 4)
        stored = max(stored, nbytes)
        if parameter.kind == "linear":
            columns = parameter.shape[-1]
            hessians[parameter.layer, parameter.role] = columns * columns * 4
            widest = max(widest, columns * columns * 4)
    together: dict[int | None, int] = {}
    for (layer, _), size in hessians.items():
        together[layer] = together.get(layer, 0) + size
    pin = layout.recipe.calibration
    # Samples went through the weights as they were before any is rounded in its place.
    layer = max(layers.values()) * (2 if pin is not None and pin.activations == "original" else 1)
    return layer + expert + max(9 * widest // 4, *together.values()) + stored + _TORCH
