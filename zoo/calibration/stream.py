"""A calibrated build: layer by layer, observe, quantize, write, and let the next layer see what was stored.

In memory are one layer's weights in float32, the Hessians of its linears and a few samples; the hidden states of all
samples lie in a file. Of a layer's experts, one is in memory at a time (``calibration/experts.py``). A finished layer
gets a line in the journal. A build that goes on computes the hidden states again from the stored weights of the
finished layers, so that it ends in the bytes of an undisturbed one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zoo.calibration.execute import Executor
from zoo.calibration.experts import Expert, ExpertActivations, Mixture
from zoo.calibration.layer import Layer
from zoo.calibration.owners import Owners, OwnersActivations
from zoo.calibration.passes import Passes
from zoo.calibration.program import Segment, cut
from zoo.calibration.weights import empty_arrays, read_float32, read_stored
from zoo.contracts import Folding, LayerActivations, Parameter, StoredArray
from zoo.errors import ZooError
from zoo.package.layout import Placed
from zoo.package.signals import Signals
from zoo.package.stream import Output, Progress, input_bytes, made_progress, quantize
from zoo.quantizers.slab import RawSlab, Scratch
from zoo.quantizers.tiles import ArrayWriter, read_back

CHUNK = 16 * 2**20
"""Weights that a quantizer gets at once: whole rows."""


class CalibratedStream:
    """One pass over the layers that are still to do.

    Args:
        output: what is written.
        tokens: int32 (samples, length): the calibration data.
        device: ``cpu`` or ``cuda``.
    """

    def __init__(self, output: Output, signals: Signals, tokens: NDArray[np.int32], device: str = "cpu") -> None:
        layout = output.layout
        assert layout.program is not None
        self._output, self._layout, self._checkpoint, self._data = output, layout, output.checkpoint, output.data
        self._done, self._signals, self._tokens = output.done, signals, tokens
        self._executor = Executor(device)
        self._program = cut(layout.program)
        self._owners = Owners(layout.graph, whole=layout.target.view == "graph")
        self._scratch = Scratch()
        self._passes: Passes
        self._progress: Callable[[Progress], None] | None = None
        self._started = time.monotonic()
        self._bytes = output.resumed

    @property
    def target(self) -> str:
        """What it is built for."""
        return self._layout.recipe.target.name

    @property
    def original(self) -> bool:
        """Whether samples go through the original weights."""
        pin = self._layout.recipe.calibration
        return pin is not None and pin.activations == "original"

    def follows(self, other: CalibratedStream) -> bool:
        """Tell whether what enters its linears is what enters another one's."""
        mine, theirs = self._layout, other._layout
        same = mine.recipe.architecture == theirs.recipe.architecture and mine.graph == theirs.graph
        return self.original and other.original and same and np.array_equal(self._tokens, other._tokens)

    def begin(self, progress: Callable[[Progress], None] | None, lead: CalibratedStream | None = None) -> Passes:
        """Get ready; return the samples, those of the stream that leads where another one does."""
        self._progress = progress
        if lead is not None:
            self._program, self._passes = lead._program, lead._passes
        else:
            assert self._layout.program is not None
            width = self._layout.program.width(self._program.before.exit)
            self._passes = Passes(self._executor, self._tokens, width, self._data.folder, self._signals)
        return self._passes

    def segments(self, progress: Callable[[Progress], None] | None = None) -> Generator[None]:
        """Do one segment after the other: what is before the layers, each layer, what is behind them.

        Raises:
            ZooError: what went wrong, named by layer; or a signal asked to stop.
        """
        passes = self.begin(progress)
        try:
            for index, (placed, segment) in enumerate(self.steps()):
                plain, of_experts = self.apart(segment, placed)
                finished = self.finished(placed)
                weights = self._stored(self._owners, plain) if finished else self.quantize(index, segment, plain)
                mixture = None
                try:
                    if segment.experts is not None:
                        mixture = self._mix(index, segment, of_experts, weights, finished=finished)
                    if placed and not finished:
                        self.finish(placed)
                    if not self.ends_with(segment):
                        passes.advance(index, segment, weights, mixture)
                finally:
                    if mixture is not None:
                        mixture.close()
                del weights  # others may work before the next segment
                yield
        finally:
            passes.close()

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader of the package should know."""
        return self._passes.notes

    def ends_with(self, segment: Segment) -> bool:
        """Tell whether a segment is the last."""
        return segment is self._program.after

    def finished(self, placed: Sequence[Placed]) -> bool:
        """Tell whether an earlier build stored all of this."""
        return bool(placed) and placed[-1].stop <= self._done

    def originals(self, segment: Segment) -> dict[str, NDArray[np.float32]]:
        """Read a segment's weights, but for experts'."""
        inside = {weight.name for weight in (segment.experts.weights[:2] if segment.experts is not None else ())}
        return {
            name: read_float32(weight, self._checkpoint, self._scratch)
            for name, weight in segment.weights.items()
            if name not in inside
        }

    def linears(self, segment: Segment, placed: Sequence[Placed]) -> set[str]:
        """Name the linears of a segment that something is stored of."""
        owners = {owner.name for array in placed for owner in self._owners.of(array.parameter)}
        return owners & {linear.name for group in segment.groups for linear in group}

    def steps(self) -> Iterator[tuple[list[Placed], Segment]]:
        """Pair each segment with what it writes, in the file's order."""
        segments = [self._program.before, *self._program.layers, self._program.after]
        where: dict[str, int] = {}
        for index, segment in enumerate(segments):
            for name in segment.weights:
                where.setdefault(name, index)
        lists: list[list[Placed]] = [[] for _ in segments]
        at = 0
        for placed in self._layout.placed:
            index = min(where[owner.name] for owner in self._owners.of(placed.parameter))
            if index < at:
                name = self._layout.recipe.target.name
                raise ZooError(f"target {name!r} places layers out of order; it cannot be calibrated for")
            at = index
            lists[index].append(placed)
        return zip(lists, segments, strict=True)

    def quantize(
        self, index: int, segment: Segment, placed: Sequence[Placed], seen: Layer | None = None
    ) -> dict[str, NDArray[np.float32]]:
        """Quantize and write a segment's weights, but for experts; return what they stand for now.

        Args:
            seen: the weights as they were and what enters them; observed here, through the weights as they become, if
                None.
        """
        quantizer = self._layout.quantizer
        owners = {owner.name: owner for one in placed for owner in self._owners.of(one.parameter)}
        weights = {
            name: read_float32(owner, self._checkpoint, self._scratch) if seen is None else seen.weight(owner).copy()
            for name, owner in owners.items()
        }
        layer = self._passes.layer(segment, weights) if seen is None else seen.over(weights)
        groups = [[one for one in group if one.name in weights] for group in segment.groups]
        groups = [group for group in groups if group]
        folded = False
        sequential = bool(getattr(quantizer, "true_sequential", False))
        if groups and not sequential and seen is None:
            self._observe(index, segment, layer, weights, [one for group in groups for one in group])
        if any(segment is one for one in self._program.layers) and isinstance(quantizer, Folding):
            if sequential:
                raise ZooError(f"quantizer {self._layout.recipe.quantizer.name!r} cannot fold and be true_sequential")
            quantizer.fold(layer)
            folded = True
        left: dict[str, set[str]] = {name: set() for name in owners}
        for one in placed:
            for owner in self._owners.of(one.parameter):
                left[owner.name].add(one.parameter.name)
        for one in placed:
            mine = self._group_of(one, groups)
            values = self._values(self._owners, one, weights, folded=folded)
            activations = None
            if mine:
                if not layer.observed(mine[0]):
                    self._observe(index, segment, layer, weights, mine)
                activations = OwnersActivations(layer, mine[0])
            self._store(one, activations, values)
            self._owners.give(one.parameter, values, weights)
            for owner in self._owners.of(one.parameter):
                left[owner.name].discard(one.parameter.name)
                if not left[owner.name]:
                    layer.forget(owner)
            self._report(one.parameter, self._output.sizes[one.parameter.name])
        return weights

    def _values(
        self, owners: Owners, one: Placed, weights: dict[str, NDArray[np.float32]], *, folded: bool = False
    ) -> NDArray[np.float32]:
        """The values of what is stored, (rows, columns); those of a weight itself where it is one."""
        if folded or owners.exact(one.parameter):
            return owners.take(one.parameter, weights)
        # What was added to it in float32 cannot be taken away again.
        return read_float32(one.parameter, self._checkpoint, self._scratch).reshape(one.rows, -1)

    def apart(self, segment: Segment, placed: Sequence[Placed]) -> tuple[list[Placed], list[Placed]]:
        """Take what experts are made of from among what a segment writes: (the others, theirs)."""
        names = {weight.name for weight in (segment.experts.weights[:2] if segment.experts is not None else ())}
        found: tuple[list[Placed], list[Placed]] = [], []
        for one in placed:
            found[any(owner.name in names for owner in self._owners.of(one.parameter))].append(one)
        return found

    def _mix(
        self,
        index: int,
        segment: Segment,
        placed: Sequence[Placed],
        weights: dict[str, NDArray[np.float32]],
        *,
        finished: bool,
    ) -> Mixture:
        """Send all samples through a segment's experts, each quantized first, or read back where all is finished."""
        mixture = self._passes.mixture(index, segment, weights)
        for expert in mixture:
            self._passes.remember_few(mixture, index - 1, expert)
            if finished:
                mixture.add(expert, self._stored(self._owners_in(expert), expert.stored(placed)))
            else:
                own = self.of_expert(expert)
                self.quantize_expert(expert, placed, own, self.activations(mixture, expert, own))
                mixture.add(expert, own)
        return mixture

    def of_expert(self, expert: Expert) -> dict[str, NDArray[np.float32]]:
        """Read the weights of an expert."""
        both = (expert.gate_up, expert.down)
        return {one.name: read_float32(one, self._checkpoint, self._scratch) for one in both}

    def activations(
        self, mixture: Mixture, expert: Expert, weights: Mapping[str, NDArray[np.float32]]
    ) -> dict[str, ExpertActivations]:
        """Say what enters an expert's weights; the gate and way up in ``weights`` makes what goes down."""
        return {
            owner.name: ExpertActivations(
                self._executor.device, len(expert.shown),
                partial(mixture.hessian, expert, owner, weights[expert.gate_up.name]),
            )
            for owner in (expert.gate_up, expert.down)
        }  # fmt: skip

    def quantize_expert(
        self,
        expert: Expert,
        placed: Sequence[Placed],
        weights: dict[str, NDArray[np.float32]],
        seen: Mapping[str, LayerActivations],
    ) -> None:
        """Quantize and write what is stored of one expert; ``weights`` become what they stand for then.

        Args:
            placed: what is stored of all experts.
        """
        owners = self._owners_in(expert)
        for one in expert.stored(placed):
            values = self._values(owners, one, weights)
            self._store(one, seen[owners.of(one.parameter)[0].name], values)
            owners.give(one.parameter, values, weights)
            self._report(one.parameter, input_bytes(one.parameter, self._checkpoint.tensors))

    def _owners_in(self, expert: Expert) -> Owners:
        return Owners((expert.gate_up, expert.down), whole=self._layout.target.view == "graph")

    def finish(self, placed: Sequence[Placed]) -> None:
        """Hash what was written of a segment, and mark it as done."""
        for one in placed:
            for array in one.arrays:
                self._data.take(one.offset(array), array.nbytes)
        self._output.journal.mark(placed[-1].stop, self._data.checksum)

    def _group_of(self, placed: Placed, groups: Sequence[Sequence[Parameter]]) -> Sequence[Parameter]:
        """Find the linears that share the inputs of what is stored; none where it is no linear, or stored transposed.

        Raises:
            ZooError: its rows belong to linears with inputs of their own.
        """
        names = {owner.name for owner in self._owners.of(placed.parameter)}
        if placed.parameter.slices[0].transposed:
            return ()
        sharing = [group for group in groups if names & {linear.name for linear in group}]
        if len(sharing) > 1:
            raise ZooError(
                f"{placed.parameter.name}: its rows belong to linears with different inputs, so the quantizer "
                f"{self._layout.recipe.quantizer.name!r} cannot calibrate it as one; choose one without calibration"
            )
        return sharing[0] if sharing else ()

    def _store(self, placed: Placed, activations: LayerActivations | None, matrix: NDArray[np.float32]) -> None:
        """Quantize a parameter, write its arrays, and put in ``matrix``, (rows, columns), what was stored."""
        parameter = placed.parameter
        out, encoding = empty_arrays(placed), self._layout.encoding
        self._layout.fill(placed, out)
        views = placed.by_rows(out)
        step = max(1, CHUNK // max(1, matrix.shape[1]))
        for start in range(0, placed.rows, step):
            self._passes.check_signals()
            stop = min(start + step, placed.rows)
            slab = RawSlab(matrix[start:stop], "F32", parameter.name, self._scratch)
            rows = {name: array[start:stop] for name, array in views.items()}
            writer = ArrayWriter(encoding, placed.scheme, parameter.columns, rows, self._scratch)
            quantize(self._layout, placed, slab, writer, activations)
            read_back(encoding, placed.scheme, rows, matrix[start:stop], self._scratch)
        if not np.isfinite(matrix).all():
            raise ZooError(
                f"{parameter.name}: quantizer {self._layout.recipe.quantizer.name!r} made NaN or infinite values"
            )
        for array in placed.arrays:
            self._data.write(placed.offset(array), out[array.array])

    def _stored(self, stored: Owners, placed: Sequence[Placed]) -> dict[str, NDArray[np.float32]]:
        """Read finished weights back from the data files."""

        def read(one: Placed, array: StoredArray, out: NDArray[Any]) -> None:
            self._data.read(one.offset(array), out)

        owners = {owner.name: owner for one in placed for owner in stored.of(one.parameter)}
        weights = {name: np.zeros(owner.shape, np.float32) for name, owner in owners.items()}
        for one in placed:
            values = read_stored(self._layout.encoding, one, partial(read, one)).reshape(one.rows, -1)
            stored.take(one.parameter, weights)[...] = values
            stored.give(one.parameter, values, weights)
        return weights

    def _observe(
        self,
        index: int,
        segment: Segment,
        layer: Layer,
        weights: Mapping[str, NDArray[np.float32]],
        wanted: Sequence[Parameter],
    ) -> None:
        names = {one.name for one in wanted}
        self._passes.observe(index, segment, layer, weights, names, partial(self._report, wanted[0], 0))

    def _report(self, parameter: Parameter, size: int) -> None:
        self._bytes += size
        if self._progress is None:
            return
        total = sum(self._output.sizes.values())
        self._progress(made_progress(self._output, parameter, self._bytes, self._output.resumed, total, self._started))
