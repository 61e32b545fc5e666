"""The reference of a computation that transformers does not have: the architecture's own operations, in float32.

It shares the architecture's composition with the package, and nothing else: torch computes it from the original
weights, unpadded and unquantized, one layer in memory at a time. So it shows what a target and a quantizer make of a
computation, not whether the computation is the right one; a plugin's own tests show that.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from zoo.calibration.execute import Executor
from zoo.calibration.program import Segment, cut
from zoo.calibration.weights import read_float32
from zoo.contracts import ArchitecturePart, Checkpoint
from zoo.declarations.architecture import Architecture
from zoo.operations import record
from zoo.quantizers.slab import Scratch

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class ComposedReference:
    """An architecture's operations over a checkpoint's weights (the ``Reference`` protocol)."""

    name = "its own operations in torch"

    def __init__(self, checkpoint: Checkpoint, part: ArchitecturePart, arch: Architecture) -> None:
        self._checkpoint, self._scratch = checkpoint, Scratch()
        self._segments = cut(record(part, arch))
        self._executor = Executor()
        self._hidden: list[Any] = []
        self._after: dict[str, Any] | None = None

    @property
    def num_layers(self) -> int:
        return len(self._segments.layers)

    def begin(self, sequences: Sequence[NDArray[np.int64]]) -> None:
        """Embed token sequences, each (length,)."""
        torch = self._executor.torch
        self._hidden = [torch.from_numpy(ids)[None] for ids in sequences]
        self._advance(self._segments.before)

    def step(self, layer: int) -> None:
        """Send every sequence through the next layer."""
        self._advance(self._segments.layers[layer])

    def states(self, sequence: int) -> NDArray[np.float32]:
        """The hidden states of a sequence as they are now, (length, hidden)."""
        array: NDArray[np.float32] = self._hidden[sequence][0].numpy()
        return array

    def logits(self, sequence: int, start: int, stop: int) -> NDArray[np.float32]:
        """The logits of positions ``start`` to ``stop`` after the last layer, (positions, vocab)."""
        if self._after is None:
            self._after = self._weights(self._segments.after)
        with self._executor.torch.inference_mode():
            logits = self._executor.run(self._segments.after, self._hidden[sequence][:, start:stop], self._after)
        array: NDArray[np.float32] = logits[0].numpy()
        return array

    def _advance(self, segment: Segment) -> None:
        weights = self._weights(segment)
        with self._executor.torch.inference_mode():
            self._hidden = [self._executor.run(segment, hidden, weights) for hidden in self._hidden]

    def _weights(self, segment: Segment) -> dict[str, Any]:
        torch = self._executor.torch
        return {
            name: torch.from_numpy(read_float32(weight, self._checkpoint, self._scratch))
            for name, weight in segment.weights.items()
        }
