"""How much memory a build and a run take, from shapes alone."""

from __future__ import annotations

import math
import os
from itertools import islice

from zoo.contracts import Checkpoint
from zoo.package.layout import READABLE, Layout, Placed

SPARE_BUFFERS = 2
"""Finished slabs that wait to be hashed, beside the one that each thread works on."""
_THREAD = 5 * 2**18
"""Stack, allocator arena and numpy's small temporaries of a thread."""
SLAB_JOB = 320
"""What Python keeps for each slab to do."""
_TORCH = 700 * 2**20
"""torch itself, with the samples and the few rows that are in work."""
_RUN_BASE = 110 * 2**20
"""Resident size of the interpreter with onnxruntime and a tokenizer."""


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


def slab_bytes(layout: Layout, checkpoint: Checkpoint) -> tuple[int, int, int]:
    """Find the largest slab as it is read (or padded) and as it is stored, bytes; and count the slabs."""
    read = stored = count = 0
    for one in layout.placed:
        row = one.streamed.nbytes // max(1, one.rows)
        for job in one.jobs(checkpoint.tensors):
            columns = max(math.prod(job.part.shape[1:]), math.prod(job.part.stored_shape[1:]))
            item = READABLE[checkpoint.tensors[job.part.tensor].dtype]
            read = max(read, (job.stop - job.start) * columns * item)
            stored = max(stored, (job.stop - job.start) * row)
            count += 1
    return read, stored, count


def build_memory(layout: Layout, checkpoint: Checkpoint | None, threads: int) -> int:
    """Predict the peak resident set size of a build, bytes.

    What this process holds now, with the parts imported and the graph made, and what building adds.
    """
    import numpy  # noqa: F401  the build needs it, so its memory counts

    _ = layout.files
    base = resident()
    return base + (working_memory(layout, checkpoint, threads) if checkpoint is not None and layout.placed else 0)


def working_memory(layout: Layout, checkpoint: Checkpoint, threads: int) -> int:
    """Predict what building adds to the process, bytes.

    For each thread a slab as read, a tile as float32 and its helpers; the stored slabs; the small arrays (scales, zero
    points) of the two parameters in work.
    """
    if layout.quantizer.needs_activations:
        return calibration_memory(layout)
    read, stored, count = slab_bytes(layout, checkpoint)
    padded = any(part.pad_rows or part.pad_columns for one in layout.placed for part in one.parameter.parts)
    columns = max(math.prod(one.parameter.shape[1:]) for one in layout.placed)
    elements = max(min(256 * 1024, read), columns)
    tile = elements * 6
    return (
        threads * (read * (2 if padded else 1) + tile + _THREAD)
        + (threads + SPARE_BUFFERS) * stored
        + _side_memory(layout, checkpoint, threads + SPARE_BUFFERS)
        + count * SLAB_JOB
    )


def _side_memory(layout: Layout, checkpoint: Checkpoint, ahead: int) -> int:
    """Count what the small arrays take: all of one parameter's, and of the next one's what a few slabs have touched."""
    whole = begun = 0
    for one in layout.placed:
        size = sum(array.nbytes for array in islice(one.arrays, 1, None))
        slabs = sum(1 for _ in one.jobs(checkpoint.tensors)) if size > whole or size > begun else ahead
        whole = max(whole, size)
        begun = max(begun, size * min(ahead, slabs) // slabs)
    return whole + begun


def calibration_memory(layout: Layout) -> int:
    """Predict what a calibrated build holds at once, bytes: a layer in float32, its Hessians or the factoring of the
    widest one (itself and two more of its size), the widest stored weight, and what is computed with.
    """
    layers: dict[int | None, int] = {}
    hessians: dict[tuple[int | None, str], int] = {}
    widest = stored = 0
    for one in layout.placed:
        parameter, size = one.parameter, math.prod(one.parameter.shape)
        # Outside the layers one weight after the other is large: the embedding, or the head.
        key = parameter.layer
        layers[key] = layers.get(key, 0) + size * 4 if key is not None else max(layers.get(key, 0), size * 4)
        stored = max(stored, sum(array.nbytes for array in one.arrays))
        if parameter.kind == "linear":
            columns = parameter.shape[-1]
            hessians[parameter.layer, parameter.role] = columns * columns * 4
            widest = max(widest, columns * columns * 4)
    together: dict[int | None, int] = {}
    for (layer, _), size in hessians.items():
        together[layer] = together.get(layer, 0) + size
    return max(layers.values()) + max(3 * widest, *together.values()) + stored + _TORCH


def run_memory(layout: Layout, context: int) -> int:
    """Predict the resident set size of running the package at ``context`` tokens, bytes.

    onnxruntime copies weights when it packs them for its kernels, and has no CPU kernels for float16, so those are held
    as float32; the KV cache is float32.
    """
    arch = layout.recipe.architecture
    cache = 2 * arch.num_hidden_layers * arch.num_key_value_heads * arch.head_dim * context * 4
    return _RUN_BASE + sum(map(held_bytes, layout.placed)) + cache


def held_bytes(one: Placed) -> int:
    """Count what a weight takes while the package runs."""
    if one.storage.kind == "float":
        return math.prod(one.parameter.shape) * 4
    return sum(array.nbytes for array in one.arrays)
