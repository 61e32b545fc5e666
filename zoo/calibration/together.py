"""Calibrated builds of several packages in step, and of those that samples reach through the original weights.

Where a recipe says so (``CalibrationPin.activations``), what enters a layer depends on no package: one pass over the
samples serves all that have the same computation and samples. Each comes out as if it were built by itself.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from zoo.calibration.stream import CalibratedStream
from zoo.package.signals import Signals
from zoo.package.stream import Output, Progress


class CalibratedStreams:
    """A pass over one output, or over several in step: each segment is done for all before the next one.

    Args:
        outputs: what is written.
        tokens: int32 (samples, length) for each: the calibration data.
        device: ``cpu`` or ``cuda``.
    """

    def __init__(
        self, outputs: Sequence[Output], signals: Signals, tokens: Sequence[NDArray[np.int32]], device: str = "cpu"
    ) -> None:
        self._streams = {
            output: CalibratedStream(output, signals, own, device) for output, own in zip(outputs, tokens, strict=True)
        }
        self._groups: list[list[CalibratedStream]] = []
        """Streams that one pass of the samples serves."""
        for stream in self._streams.values():
            group = next((group for group in self._groups if stream.follows(group[0])), None)
            if group is None:
                self._groups.append([stream])
            else:
                group.append(stream)

    def run(self, threads: int, progress: Callable[[Progress], None] | None = None) -> None:
        """Do every segment; torch has threads of its own.

        Raises:
            ZooError: what went wrong, named by layer; or a signal asked to stop.
        """
        with contextlib.ExitStack() as running:
            passes = [
                _through_the_original(group, progress) if group[0].original else group[0].segments(progress)
                for group in self._groups
            ]
            for one in passes:
                running.callback(one.close)
            for _ in zip(*passes, strict=True):
                pass

    def notes(self, output: Output) -> Iterator[str]:
        """Say what a reader of a package should know."""
        stream = self._streams[output]
        (group,) = (group for group in self._groups if stream in group)
        for other in group:
            if other is not stream:
                yield f"calibrated in one pass with the package for {other.target}"
        yield from stream.notes


def _through_the_original(
    streams: Sequence[CalibratedStream], progress: Callable[[Progress], None] | None
) -> Generator[None]:
    """Do one segment after the other for all streams; samples go through the weights as they were, once.

    Raises:
        ZooError: what went wrong, named by layer; or a signal asked to stop.
    """
    lead = streams[0]
    with contextlib.ExitStack() as opened:
        passes = lead.begin(progress)
        opened.callback(passes.close)
        for stream in streams[1:]:
            stream.begin(progress, lead)
        for index, steps in enumerate(zip(*(stream.steps() for stream in streams), strict=True)):
            segment = steps[0][1]
            due = [
                (stream, placed, *stream.apart(segment, placed))
                for stream, (placed, _) in zip(streams, steps, strict=True)
                if placed and not stream.finished(placed)
            ]
            weights = lead.originals(segment)
            layer = passes.layer(segment, weights)
            with contextlib.ExitStack() as mixing:
                mixture = None
                if segment.experts is not None:
                    mixture = passes.mixture(index, segment, weights, layer)
                    mixing.callback(mixture.close)
                elif not lead.ends_with(segment):
                    passes.advance(index, segment, weights, None, layer)
                else:
                    wanted = set[str]().union(*(stream.linears(segment, plain) for stream, _, plain, _ in due))
                    if wanted:
                        passes.observe(index, segment, layer, weights, wanted)
                for stream, _, plain, _ in due:
                    stream.quantize(index, segment, plain, layer)
                for expert in mixture or ():
                    assert mixture is not None
                    passes.remember_few(mixture, index - 1, expert)
                    own = lead.of_expert(expert)
                    seen = lead.activations(mixture, expert, own)
                    for stream, _, _, of_experts in due:
                        copies = {name: one.copy() for name, one in own.items()}
                        stream.quantize_expert(expert, of_experts, copies, seen)
                    mixture.add(expert, own)
                if mixture is not None:
                    passes.advance(index, segment, weights, mixture)
                for stream, placed, _, _ in due:
                    stream.finish(placed)
            del weights, layer
            yield
