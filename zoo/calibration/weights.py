"""A parameter's values in float32: from the checkpoint, and back from what is stored."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zoo.contracts import Checkpoint, Encoding, Parameter, StoredArray
from zoo.declarations.dtypes import held_as
from zoo.package.layout import Layout, Placed
from zoo.package.slabs import SlabReader, job_bytes, slab_jobs
from zoo.quantizers.slab import Scratch
from zoo.quantizers.tiles import read_back


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


def empty_arrays(placed: Placed) -> dict[str, NDArray[Any]]:
    """Make room for each array of a stored parameter."""
    return {array.array: np.empty(array.shape, held_as(array.dtype)) for array in placed.arrays}


def read_stored(
    encoding: Encoding, placed: Placed, read: Callable[[StoredArray, NDArray[Any]], None]
) -> NDArray[np.float32]:
    """Read a stored parameter back as the float32 values that it stands for.

    Args:
        read: fills an array with the bytes of a stored one.
    """
    arrays = empty_arrays(placed)
    for array in placed.arrays:
        read(array, arrays[array.array])
    out = np.empty((placed.rows, placed.parameter.columns), np.float32)
    read_back(encoding, placed.scheme, placed.by_rows(arrays), out)
    return out.reshape(placed.parameter.shape)


def read_package(layout: Layout, folder: Path, placed: Placed) -> NDArray[np.float32]:
    """Read a parameter of a finished package back as the float32 values that it stands for."""
    path = folder / placed.arrays[0].file
    size = next(section.size for section in layout.sections if section.file == path.name)
    header = path.stat().st_size - size

    def read(array: StoredArray, out: NDArray[Any]) -> None:
        out[...] = np.fromfile(path, held_as(array.dtype), out.size, offset=header + array.offset).reshape(out.shape)

    return read_stored(layout.encoding, placed, read)
