"""Which reference a package is held against."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from zoo.calibration.weights import read_float32
from zoo.contracts import ArchitecturePart, Checkpoint
from zoo.declarations.architecture import Architecture
from zoo.operations import record
from zoo.quantizers.slab import Scratch
from zoo.verify.reference import TransformersReference, knows, require_reference

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Reference(Protocol):
    """The right computation, a layer at a time: ``begin``, ``step`` for each layer, then ``logits``."""

    name: str
    """What computes it, in a few words."""

    @property
    def num_layers(self) -> int: ...

    def begin(self, sequences: Sequence[NDArray[np.int64]]) -> None:
        """Embed token sequences, each (length,)."""
        ...

    def step(self, layer: int) -> object:
        """Send every sequence through the next layer."""
        ...

    def states(self, sequence: int) -> NDArray[np.float32]:
        """The hidden states of a sequence as they are now, (length, hidden)."""
        ...

    def logits(self, sequence: int, start: int, stop: int) -> NDArray[np.float32]:
        """The logits of positions ``start`` to ``stop`` after the last layer, (positions, vocab)."""
        ...


def find_reference(checkpoint: Checkpoint, part: ArchitecturePart, arch: Architecture) -> Reference:
    """Take transformers' own modules where it has them for this checkpoint, else the architecture's operations.

    Raises:
        ZooError: torch or transformers is not installed, or transformers refuses the checkpoint.
    """
    require_reference()
    if knows(checkpoint, part, arch):
        return TransformersReference(checkpoint, part, arch)
    from zoo.verify.composed import ComposedReference

    scratch = Scratch()
    return ComposedReference(record(part, arch), lambda weight: read_float32(weight, checkpoint, scratch))


def all_logits(reference: Reference, ids: Sequence[int]) -> NDArray[np.float32]:
    """Compute the logits of every position of one text, (length, vocab)."""
    import numpy as np

    reference.begin([np.array(ids, np.int64)])
    for layer in range(reference.num_layers):
        reference.step(layer)
    return reference.logits(0, 0, len(ids))
