"""Hidden states of a text → its vector. Formulas: sentence-transformers, ``models/Pooling.py``."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from zoo.declarations.embedding import Pooling


def pool(hidden: NDArray[np.float32], modes: Sequence[Pooling]) -> NDArray[np.float32]:
    """Pool the hidden states of one text, (tokens, width) → (width · modes,)."""
    return np.concatenate([_pooled(hidden, mode) for mode in modes])


def _pooled(hidden: NDArray[np.float32], mode: Pooling) -> NDArray[np.float32]:
    if mode == "cls":
        return np.array(hidden[0])
    if mode == "lasttoken":
        return np.array(hidden[-1])
    if mode == "max":
        return np.asarray(hidden.max(0), np.float32)
    if mode == "weightedmean":
        weights = np.arange(1, len(hidden) + 1, dtype=np.float32)
        return np.asarray(weights @ hidden / weights.sum(), np.float32)
    total = hidden.sum(0)
    return np.asarray(total / (len(hidden) if mode == "mean" else np.sqrt(len(hidden))), np.float32)


def normalized(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Divide each vector by its length, (n, d); one of zeros stays."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(lengths, 1e-12), np.float32)
