"""A checkpoint whose channels are rescaled while a build reads it, by what a few tokens excite.

Trained models have channels of large values in what their norms make. A kernel that rounds its inputs in blocks loses
the small values beside them. The norm's weight is divided by a scale s for each channel, and the columns of the
linears that read it are multiplied by s, so that the function stays what it was:

    s_j = sqrt(rms(x_j) / rms(W_j)), over the geometric mean of all

balances channel j of the input x with column j of the weights W. The rows of an up projection, whose output is
multiplied into the input of the down projection, take the scale of the weights alone, s_j = rms(W_j)^-1/2.

x comes from tokens drawn at random, sent through the layers in float32. Every slab that the build reads is multiplied
with them on its way, so weights are read once; what a resumed build does not read again is read here. rms(W_j) is taken
over some rows.

Sources: Xiao et al., "SmoothQuant", arXiv 2211.10438, equation 4 with alpha 1/2 and root mean squares in place of
maxima.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zoo.calibration.weights import read_float32
from zoo.contracts import Checkpoint, CheckpointOver, FoldLink, Parameter, TensorInfo, flat_shape
from zoo.declarations.dtypes import READABLE
from zoo.declarations.recipe import SmoothingPin
from zoo.operations import Embedding, Linear, TokenIds, Value
from zoo.package.layout import Layout
from zoo.package.slabs import chunk_rows
from zoo.quantizers.slab import RawSlab, Scratch, widen_bf16
from zoo.smoothing.arithmetic import HALVES, Array, balance, coarse, compute
from zoo.smoothing.plan import Plan, TensorUse, plan_smoothing, rows_and_places

SAMPLED = 128
"""Rows of each tensor that the size of its columns is taken from."""
_RUN = 8
"""Rows of it that lie together."""

_TODO, _TAKEN, _DONE = range(3)


class _WithOnes(CheckpointOver):
    """A checkpoint, and vectors of ones."""

    def __init__(self, base: Checkpoint, shapes: Mapping[str, tuple[int, ...]]) -> None:
        super().__init__(base)
        self._ones = {name: np.ones(shape, np.float32) for name, shape in shapes.items()}

    @cached_property
    def tensors(self) -> Mapping[str, TensorInfo]:
        """Those of the checkpoint, and the vectors."""
        ones = {name: TensorInfo(name, "F32", one.shape, one.nbytes) for name, one in self._ones.items()}
        return {**self.base.tensors, **ones}

    def read(self, name: str, start: int, stop: int, out: NDArray[np.uint8] | None = None) -> NDArray[Any]:
        """Read rows."""
        return self._ones[name][start:stop] if name in self._ones else self.base.read(name, start, stop, out)


class SmoothedCheckpoint(CheckpointOver):
    """Rescaled tensors, in float32; the others as they are.

    Args:
        base: the checkpoint that is read.
        plan: what is rescaled.
        pin: by which tokens.
        beside: the same checkpoint, for rows that are read out of turn.
    """

    def __init__(self, base: Checkpoint, plan: Plan, pin: SmoothingPin, beside: Checkpoint | None = None) -> None:
        super().__init__(_WithOnes(base, plan.derived))
        self._beside = _WithOnes(beside or base, plan.derived)
        self._plan, self._fit = plan, pin.fit
        self._scratch = Scratch()
        self._scales: dict[str, Array] = {}
        self._turn = threading.Condition(threading.RLock())
        self._at = 0
        """The step of the computation that comes next."""
        self._values: dict[Value, Array] = {}
        self._made: dict[str, Array] = {}
        """What linears made so far, (tokens, out_features), by their weights."""
        self._energies: dict[str, Array] = {}
        self._read_by: dict[Value, list[str]] = {}
        """The weights that each value is multiplied with, whose energies are asked for: with ``fit`` alone."""
        for step in plan.steps if self._fit is not None else ():
            if isinstance(step.operation, Linear):
                self._read_by.setdefault(step.operation.x, []).append(step.operation.weight.name)
        self._last = {value: step.output for step in plan.steps for value in step.operation.inputs}
        self._index = {step.output: index for index, step in enumerate(plan.steps)}
        self._chunks = {name: bytearray(self._count(name)) for name, use in plan.tensors.items() if use.products}
        embedding = next(step.operation for step in plan.steps if isinstance(step.operation, Embedding))
        draw, self._tokens = random.Random(pin.seed), pin.tokens
        self._ids = [draw.randrange(embedding.weight.rows) for _ in range(pin.tokens)]

    @cached_property
    def tensors(self) -> Mapping[str, TensorInfo]:
        """Every tensor; those that are rescaled are float32."""
        infos = dict(self.base.tensors)
        for name, use in self._plan.tensors.items():
            if use.columns is not None or use.rows is not None:
                info = infos[name]
                size = int(np.prod(info.shape, dtype=np.int64)) * 4
                infos[name] = TensorInfo(name, "F32", info.shape, size, info.file)
        return infos

    def read(self, name: str, start: int, stop: int, out: NDArray[np.uint8] | None = None) -> NDArray[Any]:
        """Read rows of a tensor, rescaled; and multiply the tokens by them where nobody did."""
        use = self._plan.tensors.get(name)
        if use is None or (use.columns is None and use.rows is None and not use.products):
            return self.base.read(name, start, stop, out)
        return self._read(self.base, name, use, start, stop, out)

    def energies(self, parameter: Parameter) -> Array | None:
        """Say what enters a linear whose rows were read, rescaled: the mean square of each input."""
        return self._energies.get(parameter.name)

    def _read(
        self, source: Checkpoint, name: str, use: TensorUse, start: int, stop: int, out: NDArray[np.uint8] | None
    ) -> NDArray[Any]:
        with self._turn:
            columns = self._scales_of(use.columns) if use.columns is not None else None
            rows = self._row_factors(name, use)
            taken = self._take(name, use, start, stop)
        try:
            if columns is None and rows is None:
                values = source.read(name, start, stop, out)
                for first, last in taken:
                    wide = self._widen(name, values[first - start : last - start])
                    self._multiply(name, use, first, last, wide)
            else:
                values = self._rescaled(source, name, use, start, stop, out, columns, rows, taken)
        except BaseException:
            self._settle(name, taken, _TODO)
            raise
        self._settle(name, taken, _DONE)
        return values

    def _rescaled(
        self,
        source: Checkpoint,
        name: str,
        use: TensorUse,
        start: int,
        stop: int,
        out: NDArray[np.uint8] | None,
        columns: Array | None,
        rows: Array | None,
        taken: list[tuple[int, int]],
    ) -> Array:
        info = self.base.tensors[name]
        width, vector = flat_shape(info.shape)[1], len(info.shape) < 2
        size = (stop - start) * width
        stored = self._scratch.array("stored", (size * READABLE[info.dtype].nbytes,), np.uint8)
        raw = source.read(name, start, stop, stored).reshape(stop - start, width)
        flat = np.empty(size, np.float32) if out is None else out[: size * 4].view(np.float32)
        values = flat.reshape(stop - start, width)
        offset = np.float32(use.row_slice.offset if use.row_slice is not None else 0)
        step = self._chunk(name)
        begin, todo = start, dict(taken)
        while begin < stop:
            end = min((begin // step + 1) * step, stop)
            piece = values[begin - start : end - start]
            self._widen(name, raw[begin - start : end - start], piece)
            if columns is not None:
                piece *= columns
            if offset:  # of a norm's weight
                piece += offset
            if rows is not None:
                piece *= rows[begin:end, None]
            if offset:
                piece -= offset
            if begin in todo:
                self._multiply(name, use, begin, end, piece)
            begin = end
        return values.reshape(-1) if vector else values

    def _widen(self, name: str, raw: NDArray[Any], out: Array | None = None) -> Array:
        """Turn stored rows into float32 (rows, columns); infinite and NaN values stay what they are."""
        raw = raw.reshape(len(raw), -1)
        dtype = self.base.tensors[name].dtype
        wide = np.empty(raw.shape, np.float32) if out is None else out
        if dtype == "BF16":
            widen_bf16(raw.view(np.uint16), wide)
        else:
            np.copyto(wide, RawSlab(raw, dtype, name, self._scratch).float32(0, len(raw)))
        return wide

    # What is multiplied on the way: the rows of a tensor in chunks, each by whoever reads it first.

    def _chunk(self, name: str) -> int:
        """Rows of a chunk: always the same ones, since sums over other shapes may come out otherwise."""
        return chunk_rows(flat_shape(self.base.tensors[name].shape)[1])

    def _count(self, name: str) -> int:
        return -(-flat_shape(self.base.tensors[name].shape)[0] // self._chunk(name))

    def _take(self, name: str, use: TensorUse, start: int, stop: int) -> list[tuple[int, int]]:
        """Take the whole chunks among some rows that nobody took, once what they are multiplied with is known."""
        if not use.products:
            return []
        for linear, _, _ in use.products:
            self._advance(linear.x)
            if _TODO in self._chunks[name] and linear.weight.name not in self._made:
                self._made[linear.weight.name] = np.zeros((self._tokens, linear.weight.rows), np.float32)
        step, chunks = self._chunk(name), self._chunks[name]
        rows = flat_shape(self.base.tensors[name].shape)[0]
        taken = []
        for index in range(-(-start // step), len(chunks)):
            first, last = index * step, min((index + 1) * step, rows)
            if last > stop:
                break
            if chunks[index] == _TODO:
                chunks[index] = _TAKEN
                taken.append((first, last))
        return taken

    def _settle(self, name: str, taken: list[tuple[int, int]], state: int) -> None:
        if taken:
            with self._turn:
                for first, _ in taken:
                    self._chunks[name][first // self._chunk(name)] = state
                self._turn.notify_all()

    def _multiply(self, name: str, use: TensorUse, first: int, last: int, values: Array) -> None:
        for linear, ends, reads in use.products:
            x = self._values[linear.x]
            product = (x if reads is None else x[:, reads]) @ values.T
            places = ends[first:last]
            self._made[linear.weight.name][:, places[places >= 0]] = product[:, places >= 0]

    # The computation, step by step; the lock is held.

    def _advance(self, wanted: Value) -> None:
        """Compute until a value was made."""
        while (at := self._at) <= self._index[wanted]:
            operation = self._plan.steps[at].operation
            if isinstance(operation, Linear):
                self._complete(operation)
            if self._at == at:  # another thread may have gone on while this one waited
                with np.errstate(all="ignore"):  # what is not finite is left out of the scales
                    self._step(at)

    def _complete(self, linear: Linear) -> None:
        """Multiply the rows of a linear that nobody took, and wait for the others."""
        for name in dict.fromkeys(each.tensor for each in linear.weight.slices):
            chunks, step, use = self._chunks[name], self._chunk(name), self._plan.tensors[name]
            rows = flat_shape(self.base.tensors[name].shape)[0]
            while (index := chunks.find(_TODO)) >= 0 or _TAKEN in chunks:
                if index < 0:
                    self._turn.wait()
                elif self._fit is not None and use.rows is not None:
                    self._multiply_unscaled(name, use, index * step, min((index + 1) * step, rows))
                else:
                    self._read(self._beside, name, use, index * step, min((index + 1) * step, rows), None)

    def _multiply_unscaled(self, name: str, use: TensorUse, start: int, stop: int) -> None:
        """Multiply by rows whose own scale follows from what they make; its values are divided by it later."""
        columns = self._scales_of(use.columns) if use.columns is not None else None
        for first, last in self._take(name, use, start, stop):
            values = self._widen(name, self._beside.read(name, first, last))
            self._multiply(name, use, first, last, values if columns is None else values * columns)
            self._settle(name, [(first, last)], _DONE)

    def _step(self, at: int) -> None:
        step = self._plan.steps[at]
        operation, inputs = step.operation, [self._values.get(value) for value in step.operation.inputs]
        if isinstance(operation, TokenIds):
            value: Any = np.zeros((self._tokens, 1), np.float32)
        elif isinstance(operation, Embedding):
            value = self._embedded(operation)
        elif isinstance(operation, Linear):
            value = self._made.pop(operation.weight.name)
            read = self._weight if self._fit is None else self._original
            value = value if operation.bias is None else value + read(operation.bias)
        elif step.output in self._plan.norms:
            link = self._plan.norms[step.output]
            value = compute(operation, inputs, self._original)  # type: ignore[arg-type]
            excited = np.sqrt(self._energy(value))
            self._scales[link.source.name] = balance(excited, self._column_sizes(link), self._fit or HALVES)
            value = value / self._scales[link.source.name]
        else:
            value = compute(operation, inputs, self._weight)  # type: ignore[arg-type]
        self._values[step.output] = value
        if names := self._read_by.get(step.output):
            finite = np.clip(np.nan_to_num(self._energy(value)), 1e-30, 1e30)
            self._energies |= dict.fromkeys(names, coarse(np.log2(finite)))
        self._at = at + 1
        for operand in step.operation.inputs:
            if self._last[operand] == step.output:
                self._values.pop(operand, None)
        self._turn.notify_all()

    def _energy(self, value: Array) -> NDArray[np.float64]:
        """The mean square of each channel; with ``fit`` every token counts alike, however large its values are."""
        squares = np.square(value, dtype=np.float64)
        if self._fit is not None:
            squares /= np.maximum(squares.mean(1, keepdims=True), 1e-30)
        return np.asarray(squares.mean(0))

    def _embedded(self, operation: Embedding) -> Array:
        each = operation.weight.slices[0]
        rows = [self._beside.read(each.tensor, token_id, token_id + 1).copy() for token_id in self._ids]
        slab = RawSlab(
            np.concatenate(rows),
            self.base.tensors[each.tensor].dtype,
            each.tensor,
            self._scratch,
            each.offset,
            each.scale,
        )
        return slab.float32(0, slab.rows).copy()

    def _weight(self, parameter: Parameter) -> Array:
        """A small weight as it is stored, rescaled."""
        return read_float32(parameter, self, self._scratch)

    def _original(self, parameter: Parameter) -> Array:
        return read_float32(parameter, self._beside, self._scratch)

    # Scales.

    def _scales_of(self, link: FoldLink) -> Array:
        if link.source.name not in self._scales:
            norm = next((value for value, one in self._plan.norms.items() if one is link), None)
            if norm is None:
                self._scales[link.source.name] = balance(None, self._column_sizes(link))
            else:
                self._advance(norm)
        return self._scales[link.source.name]

    def _row_factors(self, name: str, use: TensorUse) -> Array | None:
        """One over the scale of each row of a tensor; 1 where it has none."""
        if use.rows is None or use.row_slice is None:
            return None
        factors = np.ones(flat_shape(self.base.tensors[name].shape)[0], np.float32)
        rows, places = rows_and_places(use.row_slice)
        factors[rows] = 1 / self._scales_of(use.rows)[places]
        return factors

    def _column_sizes(self, link: FoldLink) -> NDArray[np.float64]:
        """The root mean square of each column of a link's consumers, over some of their rows."""
        total, count = np.zeros(len(link.rows)), 0
        for name in dict.fromkeys(each.tensor for consumer in link.consumers for each in consumer.slices):
            rows = flat_shape(self.base.tensors[name].shape)[0]
            runs = min(SAMPLED // _RUN, -(-rows // _RUN))
            begins = np.linspace(0, max(rows - _RUN, 0), runs).astype(int)
            taken = [self._beside.read(name, int(begin), min(int(begin) + _RUN, rows)).copy() for begin in begins]
            wide = self._widen(name, np.concatenate(taken))
            total += np.square(wide, dtype=np.float64).mean(0) * rows
            count += rows
        return np.sqrt(total / max(1, count))


def smoothed(layout: Layout, seen: Checkpoint, beside: Checkpoint | None = None) -> Checkpoint:
    """Rescale a checkpoint as its recipe says.

    Args:
        seen: what a build reads, in order.
        beside: the same checkpoint for what is read out of turn.
    """
    pin = layout.recipe.smoothing
    if pin is None or layout.program is None:
        return seen
    plan = plan_smoothing(layout.program, layout.taken_over, by_inputs=pin.fit is not None)
    return seen if plan is None else SmoothedCheckpoint(seen, plan, pin, beside)
