"""The streaming of weights: workers that read, quantize and write slabs, each in its place."""

from __future__ import annotations

import math
import mmap
import queue
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zoo.contracts import Checkpoint, LayerActivations, Parameter, TensorInfo
from zoo.declarations.dtypes import READABLE, held_as
from zoo.declarations.scheme import BlockScheme, FloatScheme
from zoo.errors import ZooError
from zoo.package.datafile import DataFiles
from zoo.package.journal import Journal
from zoo.package.layout import Layout, Placed
from zoo.package.memory import SPARE_BUFFERS, resident, slab_bytes
from zoo.package.signals import Signals
from zoo.package.slabs import SlabJob, SlabReader, slab_jobs
from zoo.package.takeover import take_over
from zoo.quantizers.slab import RawSlab, Scratch
from zoo.quantizers.tiles import ArrayWriter

_TICK = 0.1


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a build is."""

    layer: int | None
    """The decoder layer in work; None outside the layers."""
    layers: int
    parameter: str
    bytes_done: int
    """Of the checkpoint's bytes, what an earlier build did included."""
    bytes_total: int
    bytes_resumed: int
    rate: float
    """Bytes a second of this run."""
    eta: float | None
    """Seconds left; None while the rate is unknown."""
    rss: int
    """Resident set size of this process, bytes."""
    seconds: float


class WeightStream:
    """One pass over the weights that are still to do."""

    def __init__(
        self, layout: Layout, checkpoint: Checkpoint, data: DataFiles, journal: Journal, done: int, signals: Signals
    ) -> None:
        self._layout = layout
        self._checkpoint = checkpoint
        self._data = data
        self._journal = journal
        todo = [placed for placed in layout.placed if placed.stop > done]
        self._jobs: list[tuple[Placed, SlabJob]] = [
            (placed, job) for placed in todo for job in slab_jobs(placed.parameter, checkpoint.tensors)
        ]
        self._sides: dict[str, dict[str, Any]] = {}
        self._next = 0
        self._hashed = 0
        self._lock = threading.Lock()
        self._signals = signals
        self._stop = signals.stop
        self._error: BaseException | None = None
        self._total = sum(self._bytes(placed) for placed in layout.placed)
        self._resumed = self._total - sum(self._bytes(placed) for placed in todo)
        self._done = self._resumed
        self._buffers: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def run(self, threads: int, progress: Callable[[Progress], None] | None = None) -> None:
        """Do all slabs with this many workers; the calling thread reports progress.

        Raises:
            ZooError: the first thing that went wrong, after every worker has stopped; or a signal asked to stop.
        """
        slabs = slab_bytes(self._layout, self._checkpoint)
        read, laid, stored = (max(getattr(slab, name) for slab in slabs) for name in ("read", "laid", "stored"))
        for _ in range(threads + SPARE_BUFFERS):
            self._buffers.put(np.empty(stored, np.uint8))
        workers = [threading.Thread(target=self._work, args=(read, laid), name=f"build-{i}") for i in range(threads)]
        started = time.monotonic()
        try:
            for worker in workers:
                worker.start()
            for worker in workers:
                while worker.is_alive():
                    worker.join(_TICK)
                    if progress is not None:
                        progress(self.progress(started))
        finally:
            self._stop.set()
            for worker in workers:
                if worker.ident is not None:
                    worker.join()
        if self._error is not None:
            raise self._error
        if self._hashed < len(self._jobs):
            raise self._signals.error()
        if progress is not None:
            progress(self.progress(started))

    def progress(self, started: float) -> Progress:
        """Say how far it is now."""
        seconds = time.monotonic() - started
        fresh = self._done - self._resumed
        rate = fresh / seconds if seconds > 0 else 0.0
        at = min(self._next, len(self._jobs) - 1)
        parameter = self._jobs[at][0].parameter if self._jobs else None
        return Progress(
            layer=parameter.layer if parameter else None,
            layers=self._layout.recipe.architecture.num_hidden_layers,
            parameter=parameter.name if parameter else "",
            bytes_done=self._done,
            bytes_total=self._total,
            bytes_resumed=self._resumed,
            rate=rate,
            eta=(self._total - self._done) / rate if rate > 0 else None,
            rss=resident(),
            seconds=seconds,
        )

    def _bytes(self, placed: Placed) -> int:
        return input_bytes(placed.parameter, self._checkpoint.tensors)

    def _work(self, read: int, laid: int) -> None:
        try:
            scratch = Scratch()
            reader = SlabReader(self._checkpoint, read, laid, scratch)
            while not self._stop.is_set():
                # First a buffer, then a job: so the jobs in work are always the lowest ones, and no buffer is held
                # by one that waits for them.
                buffer = self._buffers.get()
                with self._lock:
                    index = self._next
                    if index >= len(self._jobs) or self._stop.is_set():
                        self._buffers.put(buffer)
                        return
                    self._next += 1
                    sides = self._side_arrays(self._jobs[index][0])
                self._build(index, buffer, sides, reader, scratch)
        except BaseException as error:
            with self._lock:
                self._error = self._error or error
            self._stop.set()
            # Whoever waits for a buffer must wake and see that it is over.
            for _ in range(64):
                self._buffers.put(None)

    def _side_arrays(self, placed: Placed) -> dict[str, Any]:
        """The arrays of a parameter that are written whole, shared by all its slabs."""
        name = placed.parameter.name
        if name not in self._sides:
            sides = self._sides[name] = {
                array.array: _fresh(array.shape, held_as(array.dtype)) for array in placed.held
            }
            self._layout.fill(placed, sides)
        return self._sides[name]

    def _build(self, index: int, buffer: Any, sides: dict[str, Any], reader: SlabReader, scratch: Scratch) -> None:
        placed, job = self._jobs[index]
        rows = job.stop - job.start
        flat = buffer[: rows * placed.row_bytes]
        out = {name: array[job.start : job.stop] for name, array in placed.by_rows(sides).items()}
        if streamed := placed.streamed:
            out[streamed.array] = flat.view(held_as(streamed.dtype)).reshape(rows, *placed.row_shape(streamed))
        writer = ArrayWriter(self._layout.encoding, placed.scheme, placed.parameter.columns, out, scratch)
        if self._layout.takes_over(placed.parameter) and isinstance(placed.scheme, BlockScheme):
            take_over(self._checkpoint, job, writer)
        else:
            nonfinite = self._layout.recipe.allow_nonfinite and isinstance(placed.scheme, FloatScheme)
            quantize(self._layout, placed, reader.read(job, nonfinite=nonfinite), writer)
        offset = placed.offset(placed.arrays[0]) + job.start * placed.row_bytes
        self._data.write(offset, flat)
        self._data.hash(index, offset, flat, lambda: self._finished(index, buffer))
        self._data.advance()

    def _finished(self, index: int, buffer: Any) -> None:
        """A slab is hashed: give its buffer back, and close its parameter if it was the last."""
        self._buffers.put(buffer)
        placed, job = self._jobs[index]
        size = self._bytes(placed)
        self._done += size * job.stop // placed.rows - size * job.start // placed.rows
        self._hashed = index + 1
        if index + 1 == len(self._jobs) or self._jobs[index + 1][0] is not placed:
            sides = self._sides.pop(placed.parameter.name)
            for array in placed.held:
                self._data.append(placed.offset(array), sides[array.array])
            self._journal.mark(placed.stop, self._data.checksum)


def quantize(
    layout: Layout, placed: Placed, slab: RawSlab, writer: ArrayWriter, activations: LayerActivations | None = None
) -> None:
    """Fill a slab's rows of the stored arrays.

    Raises:
        ZooError: a value cannot be stored, or the quantizer left rows out.
    """
    layout.quantizer.quantize(placed.parameter, slab, writer, activations)
    if writer.filled != slab.rows:
        raise ZooError(
            f"{placed.parameter.name}: quantizer {layout.recipe.quantizer.name!r} filled {writer.filled} of "
            f"{slab.rows} rows; it is defective"
        )


def input_bytes(parameter: Parameter, tensors: Mapping[str, TensorInfo]) -> int:
    """Count the bytes of the checkpoint that a parameter is made of."""
    return sum(each.size * READABLE[tensors[each.tensor].dtype].nbytes for each in parameter.slices)


def _fresh(shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
    """Make an array whose memory goes back to the system with it.

    The allocator keeps freed blocks of some megabytes for itself, and more so the larger the last one was; over many
    parameters that would double the memory of a build.
    """
    size = math.prod(shape) * np.dtype(dtype).itemsize
    if size < 2**20:
        return np.empty(shape, dtype)
    return np.frombuffer(mmap.mmap(-1, size), dtype).reshape(shape)
