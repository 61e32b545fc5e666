"""What is made of texts: vectors, and scores of documents."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class Embeddings:
    """The vectors of texts, in the order of the texts."""

    vectors: NDArray[np.float32]
    """(texts, dimensions)."""
    tokens: tuple[int, ...]
    """Tokens of each text that were computed, special ones included."""
    truncated: tuple[bool, ...]
    """Which texts were cut to the longest that the model takes."""

    def __len__(self) -> int:
        return len(self.tokens)


@dataclass(frozen=True, slots=True)
class Ranked:
    """A document beside a query."""

    index: int
    """Its place among the documents that were given."""
    score: float
    """How well it answers the query; between 0 and 1 unless the model says otherwise."""
    tokens: int
    """Of query and document together."""
    truncated: bool
    """The document was cut to the longest that the model takes."""
