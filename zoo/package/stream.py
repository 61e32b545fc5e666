"""The streaming of weights: workers that read, quantize and write slabs, each in its place."""

from __future__ import annotations

import heapq
import math
import mmap
import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from operator import itemgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zoo.contracts import Checkpoint, FollowsTokens, LayerActivations, Parameter, TensorInfo
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
    """Of the checkpoint's bytes, once for each package, what an earlier build did included."""
    bytes_total: int
    bytes_resumed: int
    rate: float
    """Bytes a second of this run."""
    eta: float | None
    """Seconds left; None while the rate is unknown."""
    rss: int
    """Resident set size of this process, bytes."""
    seconds: float


@dataclass(frozen=True, eq=False)
class Output:
    """A package's weights in the making: where they come from, where they go, and how far an earlier build got."""

    layout: Layout
    checkpoint: Checkpoint
    """As this package reads it."""
    data: DataFiles
    journal: Journal
    done: int
    """Bytes of all weights that stand there already."""

    @cached_property
    def sizes(self) -> dict[str, int]:
        """Bytes of the checkpoint that each parameter is made of."""
        tensors = self.checkpoint.tensors
        return {placed.parameter.name: input_bytes(placed.parameter, tensors) for placed in self.layout.placed}

    @property
    def resumed(self) -> int:
        """Bytes of the checkpoint that an earlier build read."""
        return sum(self.sizes[placed.parameter.name] for placed in self.layout.placed if placed.stop <= self.done)


@dataclass(slots=True, eq=False)
class _Piece:
    """A slab of a parameter on its way into an output."""

    output: Output
    number: int
    """Among the pieces of its output, in the order of its files."""
    placed: Placed
    job: SlabJob
    last: bool
    """Whether it ends its parameter."""


class WeightStream:
    """One pass over the weights that are still to do, for one output or for several in step.

    Slabs of several outputs that are made of the same rows are worked on one after the other, so that ``SharedReads``
    reads these once; where blocks agree too, they are rounded once.
    """

    def __init__(self, outputs: Sequence[Output], signals: Signals) -> None:
        self._outputs = outputs
        self._tasks = in_step(outputs)
        self._sides: dict[tuple[Output, str], dict[str, Any]] = {}
        self._next = 0
        self._left = sum(map(len, self._tasks))
        """Pieces that are not hashed."""
        self._lock = threading.Lock()
        self._signals = signals
        self._stop = signals.stop
        self._error: BaseException | None = None
        self._total = sum(sum(output.sizes.values()) for output in outputs)
        self._resumed = self._done = sum(output.resumed for output in outputs)
        self._buffers: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def run(self, threads: int, progress: Callable[[Progress], None] | None = None) -> None:
        """Do all slabs with this many workers; the calling thread reports progress.

        Raises:
            ZooError: the first thing that went wrong, after every worker has stopped; or a signal asked to stop.
        """
        kinds = [slab_bytes(output.layout, output.checkpoint) for output in self._outputs]
        read, laid = (max(getattr(slab, name) for slabs in kinds for slab in slabs) for name in ("read", "laid"))
        for _ in range(threads + SPARE_BUFFERS):
            stored = [np.empty(max(slab.stored for slab in slabs), np.uint8) for slabs in kinds]
            self._buffers.put(dict(zip(self._outputs, stored, strict=True)))
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
        if self._left:
            raise self._signals.error()
        if progress is not None:
            progress(self.progress(started))

    def notes(self, output: Output) -> Iterator[str]:
        """Say what was computed once for an output and another one."""
        for other in self._outputs:
            together = (task for task in self._tasks if {output, other} <= {piece.output for piece in task})
            if other is not output and (count := len({task[0].placed.parameter.name for task in together})):
                yield f"{count} weights have the levels of the package for {other.layout.recipe.target.name}"

    def progress(self, started: float) -> Progress:
        """Say how far it is now."""
        at = min(self._next, len(self._tasks) - 1)
        parameter = self._tasks[at][0].placed.parameter if self._tasks else None
        return made_progress(self._outputs[0], parameter, self._done, self._resumed, self._total, started)

    def _work(self, read: int, laid: int) -> None:
        try:
            scratch = Scratch()
            readers = {output: SlabReader(output.checkpoint, read, laid, scratch) for output in self._outputs}
            tiles = {output: Scratch() for output in self._outputs}
            while not self._stop.is_set():
                # First buffers, then a task: so the tasks in work are always the lowest ones, and no buffer is held
                # by one that waits for them.
                buffers = self._buffers.get()
                with self._lock:
                    index = self._next
                    if index >= len(self._tasks) or self._stop.is_set():
                        self._buffers.put(buffers)
                        return
                    self._next += 1
                    task = self._tasks[index]
                    sides = [self._side_arrays(piece) for piece in task]
                self._build(task, buffers, sides, readers[task[0].output], tiles)
        except BaseException as error:
            with self._lock:
                self._error = self._error or error
            self._stop.set()
            # Whoever waits for a buffer must wake and see that it is over.
            for _ in range(64):
                self._buffers.put(None)

    def _side_arrays(self, piece: _Piece) -> dict[str, Any]:
        """The arrays of a parameter that are written whole, shared by all its slabs."""
        placed = piece.placed
        key = piece.output, placed.parameter.name
        if key not in self._sides:
            sides = self._sides[key] = {array.array: _fresh(array.shape, held_as(array.dtype)) for array in placed.held}
            piece.output.layout.fill(placed, sides)
        return self._sides[key]

    def _build(
        self,
        task: list[_Piece],
        buffers: Any,
        sides: list[dict[str, Any]],
        reader: SlabReader,
        tiles: Mapping[Output, Scratch],
    ) -> None:
        """Fill the pieces of a task, all from the first one's levels, and write them."""
        filled = [
            _arrays(piece, buffers[piece.output], held, tiles[piece.output])
            for piece, held in zip(task, sides, strict=True)
        ]
        first, writer = task[0], filled[0][1]
        writer.others = [other for _, other in filled[1:]]
        layout, placed = first.output.layout, first.placed
        if layout.takes_over(placed.parameter) and isinstance(placed.scheme, BlockScheme):
            take_over(first.output.checkpoint, first.job, writer)
        else:
            nonfinite = layout.recipe.allow_nonfinite and isinstance(placed.scheme, FloatScheme)
            slab = reader.read(first.job, nonfinite=nonfinite)
            if isinstance(first.output.checkpoint, FollowsTokens):
                slab.energies = first.output.checkpoint.energies(placed.parameter)
            quantize(layout, placed, slab, writer)
        left = [None] * len(task)
        for piece, (flat, _) in zip(task, filled, strict=True):
            data, offset = piece.output.data, piece.placed.offset(piece.placed.arrays[0])
            offset += piece.job.start * piece.placed.row_bytes
            data.write(offset, flat)
            data.hash(piece.number, offset, flat, partial(self._finished, piece, left, buffers))
        for piece in task:
            piece.output.data.advance()

    def _finished(self, piece: _Piece, left: list[None], buffers: Any) -> None:
        """A slab is hashed: give its task's buffers back if it was the last, and close its parameter likewise."""
        output, placed, job = piece.output, piece.placed, piece.job
        size = output.sizes[placed.parameter.name]
        with self._lock:
            self._done += size * job.stop // placed.rows - size * job.start // placed.rows
            self._left -= 1
            left.pop()
            if not left:
                self._buffers.put(buffers)
            sides = self._sides.pop((output, placed.parameter.name)) if piece.last else {}
        if piece.last:
            for array in placed.held:
                output.data.append(placed.offset(array), sides[array.array])
            output.journal.mark(placed.stop, output.data.checksum)


def _arrays(piece: _Piece, buffer: Any, sides: dict[str, Any], scratch: Scratch) -> tuple[Any, ArrayWriter]:
    """Give the rows of a slab in the stored arrays: the bytes of the streamed one, and what fills all."""
    placed, job = piece.placed, piece.job
    rows = job.stop - job.start
    flat = buffer[: rows * placed.row_bytes]
    out = {name: array[job.start : job.stop] for name, array in placed.by_rows(sides).items()}
    if streamed := placed.streamed:
        out[streamed.array] = flat.view(held_as(streamed.dtype)).reshape(rows, *placed.row_shape(streamed))
    return flat, ArrayWriter(piece.output.layout.encoding, placed.scheme, placed.parameter.columns, out, scratch)


def in_step(outputs: Sequence[Output]) -> list[list[_Piece]]:
    """Order the slabs of several outputs by the tensors that they are made of; each output's stay in its own order.

    Returns:
        Lists of pieces that have the same levels; mostly lists of one.
    """
    first = outputs[0].layout
    assert first.architecture is not None
    parameters = first.architecture.parameters(first.recipe.architecture, first.target.head_multiple)
    places = {name: at for at, name in enumerate(dict.fromkeys(each.tensor for p in parameters for each in p.slices))}

    def ordered(which: int) -> Iterator[tuple[tuple[int, int], int, _Piece]]:
        output, at, number = outputs[which], (-1, 0), 0
        for placed in output.layout.placed:
            jobs = list(slab_jobs(placed.parameter, output.checkpoint.tensors)) if placed.stop > output.done else []
            for job in jobs:
                lead = job.slices[0]
                at = max(at, (places.get(lead.tensor, -1), job.start - lead.at))
                yield at, which, _Piece(output, number, placed, job, job is jobs[-1])
                number += 1

    tasks: list[list[_Piece]] = []
    before: object = None
    for _, _, piece in heapq.merge(*map(ordered, range(len(outputs))), key=itemgetter(0, 1)):
        levels = _levels(piece) if len(outputs) > 1 else None
        if levels is not None and levels == before and all(piece.output is not other.output for other in tasks[-1]):
            tasks[-1].append(piece)
        else:
            tasks.append([piece])
        before = levels
    return tasks


def _levels(piece: _Piece) -> object:
    """What decides the levels of a slab; None where they are computed for its output alone."""
    layout, placed, job = piece.output.layout, piece.placed, piece.job
    if not isinstance(placed.scheme, BlockScheme) or layout.recipe.smoothing is not None:
        return None
    if layout.takes_over(placed.parameter):
        return None
    slices = tuple(replace(each, at=each.at - job.start) for each in job.slices)
    return layout.recipe.quantizer, placed.scheme, slices, job.stop - job.start


def made_progress(
    output: Output, parameter: Parameter | None, done: int, resumed: int, total: int, started: float
) -> Progress:
    """Say how far a build is.

    Args:
        done: bytes of the checkpoint, those that an earlier build read included; of ``total``.
        started: when this build began, by the monotonic clock.
    """
    seconds = time.monotonic() - started
    rate = (done - resumed) / seconds if seconds > 0 else 0.0
    return Progress(
        layer=parameter.layer if parameter else None,
        layers=output.layout.recipe.architecture.num_hidden_layers,
        parameter=parameter.name if parameter else "",
        bytes_done=done,
        bytes_total=total,
        bytes_resumed=resumed,
        rate=rate,
        eta=(total - done) / rate if rate > 0 else None,
        rss=resident(),
        seconds=seconds,
    )


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
