"""A parameter's values in float32: from the checkpoint, and back from what is stored."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from zoo.contracts import Checkpoint, Parameter
from zoo.package.layout import Placed
from zoo.package.slabs import SlabReader, job_bytes, slab_jobs
from zoo.quantizers.slab import Scratch


def read_float32(parameter: Parameter, checkpoint: Checkpoint, scratch: Scratch) -> NDArray[np.float32]:
    """Read a whole parameter, heads padded as the target wants them, in float32.

    Raises:
        ZooError: a value is NaN or infinite, named by its tensor.
    """
    out = np.empty((parameter.rows, parameter.columns), np.float32)
    jobs = list(slab_jobs(parameter, checkpoint.tensors))
    sizes = [job_bytes(job, checkpoint.tensors) for job in jobs]
    read, laid = (max((getattr(size, name) for size in sizes), default=0) for name in ("read", "laid"))
    reader = SlabReader(checkpoint, read, laid, scratch)
    for job in jobs:
        slab = reader.read(job)
        for start in range(0, slab.rows, slab.tile_rows):
            stop = min(start + slab.tile_rows, slab.rows)
            out[job.start + start : job.start + stop] = slab.float32(start, stop)
    return out.reshape(parameter.shape)


def empty_arrays(placed: Placed, rows: int) -> dict[str, NDArray[Any]]:
    """Make room for some rows of each array of a stored parameter."""
    return {one.array: np.empty((rows, *one.shape[1:]), one.dtype) for one in placed.arrays}
