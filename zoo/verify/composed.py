"""An architecture's own operations in torch, in float32, one layer in memory at a time.

Over the original weights it is the reference of a computation that transformers does not have: it shares the
composition with the package and nothing else, so it shows what a target and a quantizer make of a computation, not
whether the computation is the right one; a plugin's own tests show that. Over a package's dequantized weights it is
what the package would compute if its kernels rounded nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from zoo.calibration.execute import Executor
from zoo.calibration.program import Segment, cut
from zoo.contracts import Parameter
from zoo.operations import Program

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class ComposedReference:
    """A program over weights (the ``Reference`` protocol).

    Args:
        program: the computation.
        read: reads a weight as float32.

    Raises:
        ZooError: the program has no layers, or hands on more than one value from a layer to the next.
    """

    name = "its own operations in torch"

    def __init__(self, program: Program, read: Callable[[Parameter], NDArray[np.float32]]) -> None:
        self._read = read
        self._segments = cut(program)
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

    def step(
        self, layer: int, given: Mapping[int, NDArray[np.float32]] | None = None
    ) -> dict[int, NDArray[np.float32]]:
        """Send every sequence through the next layer.

        Args:
            given: hidden states (length, hidden) of some sequences, as another side has them before the layer.

        Returns:
            What this layer makes of ``given``.
        """
        return self._advance(self._segments.layers[layer], given or {})

    def states(self, sequence: int) -> NDArray[np.float32]:
        """The hidden states of a sequence as they are now, (length, hidden)."""
        array: NDArray[np.float32] = self._hidden[sequence][0].numpy()
        return array

    def logits(self, sequence: int, start: int, stop: int) -> NDArray[np.float32]:
        """The logits of positions ``start`` to ``stop`` after the last layer, (positions, vocab)."""
        return self._head(self._hidden[sequence][:, start:stop])

    def head(self, states: NDArray[np.float32]) -> NDArray[np.float32]:
        """What the final norm and the head make of given hidden states: (length, hidden) → (length, vocab)."""
        return self._head(self._executor.torch.from_numpy(states)[None])

    def _head(self, hidden: Any) -> NDArray[np.float32]:
        if self._after is None:
            self._after = self._weights(self._segments.after)
        with self._executor.torch.inference_mode():
            logits = self._executor.run(self._segments.after, hidden, self._after)
        array: NDArray[np.float32] = logits[0].numpy()
        return array

    def _advance(
        self, segment: Segment, given: Mapping[int, NDArray[np.float32]] | None = None
    ) -> dict[int, NDArray[np.float32]]:
        torch, weights = self._executor.torch, self._weights(segment)
        with torch.inference_mode():
            self._hidden = [self._executor.run(segment, hidden, weights) for hidden in self._hidden]
            return {
                index: self._executor.run(segment, torch.from_numpy(states)[None], weights)[0].numpy()
                for index, states in (given or {}).items()
            }

    def _weights(self, segment: Segment) -> dict[str, Any]:
        torch = self._executor.torch
        return {name: torch.from_numpy(self._read(weight)) for name, weight in segment.weights.items()}
