"""A parameter's values in float32: from the checkpoint, and back from what is stored."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zoo.contracts import Checkpoint
from zoo.declarations.dtypes import READABLE
from zoo.package.layout import Placed
from zoo.quantizers.slab import RawSlab, Scratch
from zoo.sources.rows import RowReader


def read_float32(placed: Placed, checkpoint: Checkpoint, scratch: Scratch) -> NDArray[np.float32]:
    """Read a whole parameter, heads padded as the target wants them, in float32.

    Raises:
        ZooError: a value is NaN or infinite, named by its tensor.
    """
    shape = placed.parameter.shape
    out = np.empty((shape[0], math.prod(shape[1:])), np.float32)
    capacity = 0
    jobs = list(placed.jobs(checkpoint.tensors))
    for job in jobs:
        columns = max(math.prod(job.part.shape[1:]), math.prod(job.part.stored_shape[1:]))
        capacity = max(
            capacity, (job.stop - job.start) * columns * READABLE[checkpoint.tensors[job.part.tensor].dtype].nbytes
        )
    reader = RowReader(checkpoint, capacity)
    for job in jobs:
        raw = reader.read(job.part, job.start, job.stop)
        slab = RawSlab(raw, checkpoint.tensors[job.part.tensor].dtype, job.part.tensor, scratch, job.part.offset)
        for start in range(0, slab.rows, slab.tile_rows):
            stop = min(start + slab.tile_rows, slab.rows)
            out[job.row + start : job.row + stop] = slab.float32(start, stop)
    return out.reshape(shape)


def empty_arrays(placed: Placed, rows: int) -> dict[str, NDArray[Any]]:
    """Make room for some rows of each array of a stored parameter."""
    return {one.array: np.empty((rows, *one.shape[1:]), one.dtype) for one in placed.arrays}
