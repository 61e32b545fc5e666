"""The package's side where its own engine computes it: logits of whole texts, no layer by itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from zoo.contracts import LogitEngine


class EngineCandidate:
    """A package through an engine that gives logits.

    Args:
        engine: the opened package.
    """

    def __init__(self, engine: LogitEngine) -> None:
        self.engine = engine
        self._sequences: list[NDArray[np.int64]] = []
        self._computed: tuple[int, NDArray[np.float32]] | None = None

    def begin(self, sequences: Sequence[NDArray[np.int64]]) -> None:
        """Take token sequences, each (length,)."""
        self._sequences, self._computed = list(sequences), None

    def logits(self, sequence: int, start: int, stop: int) -> NDArray[np.float32]:
        """The logits of positions ``start`` to ``stop``, (positions, vocab); a text is computed once."""
        if self._computed is None or self._computed[0] != sequence:
            self._computed = sequence, self.engine.logits([int(token) for token in self._sequences[sequence]])
        return self._computed[1][start:stop]
