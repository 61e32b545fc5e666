"""A parameter cut into slabs, and each slab read from the slices whose rows lie in it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from zoo.contracts import Checkpoint, Parameter, RowSlice, TensorInfo, flat_shape
from zoo.declarations.dtypes import READABLE
from zoo.quantizers.slab import TILE, RawSlab, Scratch
from zoo.sources.rows import WINDOW, RowReader, positions, scattered

SLAB = 4 * 2**20
"""Bytes of a slab as the checkpoint stores it: long enough to stream, short enough to hold several."""


@dataclass(frozen=True, slots=True)
class SlabJob:
    """A slab to build: neighbouring rows of a parameter, and the slices that they may come from."""

    slices: tuple[RowSlice, ...]
    start: int
    """First row, counted in the parameter."""
    stop: int

    @property
    def plain(self) -> bool:
        """Whether its rows are handed on as they are read."""
        return len(self.slices) == 1 and self.slices[0].untouched


@dataclass(frozen=True, slots=True)
class SlabPiece:
    """The rows of one slice that lie in a slab."""

    row_slice: RowSlice
    first: int
    """First row, counted among those that the slice fills, without padding."""
    last: int
    places: NDArray[np.intp]
    """Where each lies in the slab."""


def slab_jobs(parameter: Parameter, tensors: Mapping[str, TensorInfo]) -> Iterator[SlabJob]:
    """Cut a parameter into slabs, in the order of its rows; slices that lie in each other share theirs."""
    for slices in _bands(parameter.slices):
        yield from _band_jobs(slices, parameter.columns, tensors)


def _band_jobs(slices: tuple[RowSlice, ...], columns: int, tensors: Mapping[str, TensorInfo]) -> Iterator[SlabJob]:
    start = min(row_slice.at for row_slice in slices)
    stop = max(row_slice.places[-1] for row_slice in slices) + 1
    item = max(READABLE[tensors[row_slice.tensor].dtype].nbytes for row_slice in slices)
    step, chunk = max(1, SLAB // max(1, columns * item)), chunk_rows(columns)
    step -= step % chunk if step > chunk else 0
    for row in range(start, stop, step):
        yield SlabJob(slices, row, min(row + step, stop))


def chunk_rows(columns: int) -> int:
    """Say how many rows of so many columns make a chunk, about a tile: a power of two, so that slabs end with one."""
    return 1 << (max(1, TILE // max(1, columns)).bit_length() - 1)


def _bands(slices: Sequence[RowSlice]) -> Iterator[tuple[RowSlice, ...]]:
    """Group the slices whose rows lie between each other's."""
    band: list[RowSlice] = []
    end = 0
    for row_slice in sorted(slices, key=lambda row_slice: row_slice.at):
        if not row_slice.places:
            continue
        if band and row_slice.at >= end:
            yield tuple(band)
            band = []
        band.append(row_slice)
        end = max(end, row_slice.places[-1] + 1)
    if band:
        yield tuple(band)


class JobBytes(NamedTuple):
    """What reading a slab takes, bytes."""

    read: int
    """The most rows of one slice, as the checkpoint stores them."""
    laid: int
    """The slab laid together; 0 where its rows are handed on as they are read."""
    work: int
    """Whole rows in float32, where values are scaled or moved or of several types; the window to pick rows from."""


def job_bytes(job: SlabJob, tensors: Mapping[str, TensorInfo]) -> JobBytes:
    """Say what reading a slab takes."""
    first = job.slices[0]
    values, common = (job.stop - job.start) * first.columns, _common(job, tensors)
    moved = 2 if not all(each.same_values for each in job.slices) else 0 if common else 1
    if job.plain:
        read, laid = values * READABLE[tensors[first.tensor].dtype].nbytes, 0
    else:
        read, laid = 0, values * READABLE[common or "F32"].nbytes
        for piece in slab_pieces(job):
            each = piece.row_slice
            row = flat_shape(each.tensor_shape)[1] * READABLE[tensors[each.tensor].dtype].nbytes
            read = max(read, (each.count if each.transposed else piece.last - piece.first) * row)
    # Rows that come before their turn are kept until they are digested, as many as are read at once.
    work = moved * values * 4 + (WINDOW + read if any(scattered(each) for each in job.slices) else 0)
    return JobBytes(read, laid, work)


class SlabKind(NamedTuple):
    """What decides the memory that a slab takes."""

    rows: int
    dtype: str
    """The type of the first tensor that it is read from."""
    taken: JobBytes


def slab_kinds(
    parameter: Parameter, tensors: Mapping[str, TensorInfo], known: dict[object, Counter[SlabKind]]
) -> Counter[SlabKind]:
    """Count a parameter's slabs by their kind; what differs in nothing but the tensor's name is cut once.

    Args:
        known: what was cut so far, by the shape of its slices; it grows.
    """
    counts: Counter[SlabKind] = Counter()
    for slices in _bands(parameter.slices):
        start = min(each.at for each in slices)
        key = (parameter.columns, *(_cut(each, start, tensors) for each in slices))
        if key not in known:
            known[key] = _band_kinds(slices, parameter.columns, tensors)
        counts.update(known[key])
    return counts


def _band_kinds(slices: tuple[RowSlice, ...], columns: int, tensors: Mapping[str, TensorInfo]) -> Counter[SlabKind]:
    dtype = tensors[slices[0].tensor].dtype
    plain: dict[int, SlabKind] = {}
    """Rows → the kind of a slab that is handed on as it is read: nothing else decides it."""
    kinds: Counter[SlabKind] = Counter()
    for job in _band_jobs(slices, columns, tensors):
        rows = job.stop - job.start
        kind = plain.get(rows) or SlabKind(rows, dtype, job_bytes(job, tensors))
        if job.plain:
            plain[rows] = kind
        kinds[kind] += 1
    return kinds


def _cut(one: RowSlice, start: int, tensors: Mapping[str, TensorInfo]) -> tuple[object, ...]:
    """What of a slice decides how it is cut and read, seen from the first row of its band."""
    values = one.offset, one.scale, one.unit, one.transposed
    placed = one.count, one.at - start, one.stride, one.pad_rows, one.pad_columns
    return (tensors[one.tensor].dtype, one.tensor_shape, scattered(one), values, placed)


class SlabReader:
    """Reads slabs into buffers that it keeps; one for each thread.

    Args:
        checkpoint: where the weights are.
        read: bytes of the most rows that are read at once.
        laid: bytes of the largest slab that is laid together (see ``job_bytes``).
        scratch: the buffers of the calling thread.
    """

    def __init__(self, checkpoint: Checkpoint, read: int, laid: int, scratch: Scratch) -> None:
        self._checkpoint = checkpoint
        self._reader = RowReader(checkpoint, read)
        self._laid_bytes = laid
        self._laid: NDArray[np.uint8] | None = None
        self._scratch = scratch

    def read(self, job: SlabJob, *, nonfinite: bool = False) -> RawSlab:
        """Read a slab; it is overwritten by the next one.

        Args:
            nonfinite: let NaN and infinite values through (see ``RawSlab``).
        """
        if job.plain:
            row_slice = job.slices[0]
            raw = self._reader.read(row_slice, job.start - row_slice.at, job.stop - row_slice.at)
            return self._slab(row_slice, raw, nonfinite)
        pieces = list(slab_pieces(job))
        columns, common = job.slices[0].columns, _common(job, self._checkpoint.tensors)
        laid = self._room(job.stop - job.start, columns, READABLE[common or "F32"].numpy)
        if sum(len(piece.places) for piece in pieces) < len(laid) or job.slices[0].pad_columns is not None:
            laid[...] = 0
        for piece in pieces:
            raw = self._reader.read(piece.row_slice, piece.first, piece.last)
            if common is None:
                # Their types or what is done to them differ: each is widened by itself.
                slab = self._slab(piece.row_slice, raw, nonfinite)
                raw = slab.float32(0, slab.rows)
            pad = piece.row_slice.pad_columns
            if pad is None:
                laid[piece.places] = raw
            else:
                laid[piece.places[:, None], positions(pad)] = raw
        if common is not None:
            return self._slab(job.slices[0], laid, nonfinite, names=tuple(_names(job)))
        return RawSlab(laid, "F32", tuple(_names(job)), self._scratch, nonfinite=nonfinite)

    def _slab(
        self, row_slice: RowSlice, raw: NDArray[Any], nonfinite: bool, names: tuple[str, ...] | None = None
    ) -> RawSlab:
        dtype = self._checkpoint.tensors[row_slice.tensor].dtype
        return RawSlab(
            raw,
            dtype,
            names or (row_slice.tensor,),
            self._scratch,
            row_slice.offset,
            row_slice.scale,
            unit=row_slice.unit,
            nonfinite=nonfinite,
        )

    def _room(self, rows: int, columns: int, dtype: Any) -> NDArray[Any]:
        if self._laid is None:
            self._laid = np.empty(self._laid_bytes, np.uint8)
        kind = np.dtype(dtype)
        laid: NDArray[Any] = self._laid[: rows * columns * kind.itemsize].view(kind).reshape(rows, columns)
        return laid


def slab_pieces(job: SlabJob) -> Iterator[SlabPiece]:
    """Find the rows of each slice that lie in a slab."""
    for row_slice in job.slices:
        if row_slice.pad_rows is None:
            # The first of its places that is not before the slab, and the first that is behind it.
            first, last = (
                min(max(-(-(row - row_slice.at) // row_slice.stride), 0), row_slice.stored_rows)
                for row in (job.start, job.stop)
            )
            places = row_slice.at + np.arange(first, last) * row_slice.stride
        else:
            places = row_slice.at + positions(row_slice.pad_rows) * row_slice.stride
            first, last = (int(place) for place in np.searchsorted(places, (job.start, job.stop)))
            places = places[first:last]
        if first < last:
            yield SlabPiece(row_slice, first, last, places - job.start)


def _common(job: SlabJob, tensors: Mapping[str, TensorInfo]) -> str | None:
    """The type that all slices of a slab have, where the same is done to all their values; nothing moves padding."""
    if any(each.offset and not each.untouched for each in job.slices):
        return None
    kinds = {(tensors[each.tensor].dtype, each.offset, each.scale, each.unit) for each in job.slices}
    return next(iter(kinds))[0] if len(kinds) == 1 else None


def _names(job: SlabJob) -> Iterator[str]:
    yield from dict.fromkeys(piece.row_slice.tensor for piece in slab_pieces(job))
