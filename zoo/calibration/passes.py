"""Calibration samples on their way through a computation, a segment at a time; between two they lie in a file."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zoo.calibration.execute import Executor
from zoo.calibration.experts import Expert, Mixture
from zoo.calibration.layer import Layer
from zoo.calibration.program import Segment
from zoo.calibration.states import States
from zoo.operations import Experts
from zoo.operations.compute import TorchRun
from zoo.package.signals import Signals

BATCH = 2048
"""Tokens that are computed at once, unless a sample is longer."""


class Passes:
    """All samples, as far as they came.

    Args:
        tokens: int32 (samples, length): the calibration data.
        width: values of a hidden state.
        folder: where the hidden states go meanwhile.
    """

    def __init__(
        self, executor: Executor, tokens: NDArray[np.int32], width: int, folder: Path, signals: Signals
    ) -> None:
        self.executor, self.tokens, self._folder, self._signals = executor, tokens, folder, signals
        self._states = States(folder, (*tokens.shape, width))
        self._few: list[tuple[int, int, int]] = []
        """Experts that fewer tokens chose than their Hessians are of: (tokens, layer, expert)."""
        self._least = 0

    @property
    def notes(self) -> tuple[str, ...]:
        """What the build is to say of experts that few tokens reached."""
        if not self._few:
            return ()
        fewest, layer, expert = min(self._few)
        return (
            f"{len(self._few)} experts were chosen by fewer than {self._least} of {self.tokens.size} calibration "
            f"tokens (expert {expert} of layer {layer} by {fewest}); they were calibrated with the tokens that came "
            "nearest to choosing them as well",
        )

    def layer(self, segment: Segment, weights: Mapping[str, NDArray[np.float32]]) -> Layer:
        """Make room for what is observed of a segment with these weights."""
        return Layer(segment, weights, self.executor.torch, self.executor.device)

    def observe(
        self,
        index: int,
        segment: Segment,
        layer: Layer,
        weights: Mapping[str, NDArray[np.float32]],
        wanted: set[str],
        tick: Callable[[], None] | None = None,
    ) -> None:
        """Send all samples as far as the wanted linears, gathering the statistics of their inputs.

        Args:
            index: of the segment, from the start of the computation.
            tick: called after every batch.
        """
        tensors = self._tensors(weights)
        with self.executor.torch.no_grad():
            for start, stop in self._batches():
                state = self._enter(index, start, stop)
                self.executor.run(segment, state, tensors, layer.observe, wanted, mix=_nothing)
                if tick is not None:
                    tick()
        self._observed(layer)

    def advance(
        self,
        index: int,
        segment: Segment,
        weights: Mapping[str, NDArray[np.float32]],
        mixture: Mixture | None,
        layer: Layer | None = None,
    ) -> None:
        """Send all samples through a segment; what its experts make of them is there already.

        Args:
            layer: gathers the statistics of what enters the linears on the way.
        """
        tensors = self._tensors(weights)
        observe = None if layer is None else layer.observe
        with self.executor.torch.no_grad():
            for start, stop in self._batches():
                mix = None if mixture is None else partial(mixture.result, start)
                state = self.executor.run(segment, self._enter(index, start, stop), tensors, observe, mix=mix)
                self._states.write(start, state.cpu().numpy())
        if layer is not None:
            self._observed(layer)

    def mixture(
        self, index: int, segment: Segment, weights: Mapping[str, NDArray[np.float32]], layer: Layer | None = None
    ) -> Mixture:
        """Send all samples up to a segment's experts.

        Args:
            layer: gathers the statistics of what enters the segment's linears.
        """
        assert segment.experts is not None
        mixture = Mixture(segment.experts, self._folder, self._states.shape, self.executor)
        tensors = self._tensors(weights)

        def record(start: int, operation: Experts, run: TorchRun) -> Any:
            mixture.record(start, operation, run)
            return None if layer is None else _nothing(operation, run)

        observe = None if layer is None else layer.observe
        with self.executor.torch.no_grad():
            for start, stop in self._batches():
                state = self._enter(index, start, stop)
                self.executor.run(segment, state, tensors, observe, mix=partial(record, start))
        if layer is not None:
            self._observed(layer)
        return mixture

    def remember_few(self, mixture: Mixture, layer: int, expert: Expert) -> None:
        """Remember an expert that fewer tokens chose than its Hessians are of."""
        if len(expert.tokens) < mixture.least:
            self._few.append((len(expert.tokens), layer, expert.number))
            self._least = mixture.least

    def check_signals(self) -> None:
        """Stop where a signal asked to.

        Raises:
            ZooError: it did.
        """
        if self._signals.stop.is_set():
            raise self._signals.error()

    def close(self) -> None:
        """Remove the file."""
        self._states.close()

    def _observed(self, layer: Layer) -> None:
        layer.tokens = self.tokens.size
        layer.check()

    def _batches(self) -> Iterator[tuple[int, int]]:
        count, length = self.tokens.shape
        step = max(1, BATCH // length)
        for start in range(0, count, step):
            self.check_signals()
            yield start, min(start + step, count)

    def _enter(self, index: int, start: int, stop: int) -> Any:
        values = self.tokens[start:stop].astype(np.int64) if index == 0 else self._states.read(start, stop)
        return self.executor.torch.from_numpy(values).to(self.executor.device)

    def _tensors(self, weights: Mapping[str, NDArray[np.float32]]) -> dict[str, Any]:
        return {name: self.executor.torch.from_numpy(one).to(self.executor.device) for name, one in weights.items()}


def _nothing(operation: Experts, run: TorchRun) -> Any:
    """Stand for what experts make, where nothing that is looked at depends on it (a ``Mix``)."""
    return run.torch.zeros_like(run.value(operation.x))
