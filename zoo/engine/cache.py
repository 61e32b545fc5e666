"""Keys and values of one sequence: one buffer a layer and kind, read and written in place."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo.errors import ZooError

if TYPE_CHECKING:
    from numpy.typing import DTypeLike, NDArray

ALIGNMENT = 64
"""Bytes; a cache line, and the widest vector that the kernels load."""
SMALLEST = 256
"""Tokens of the first buffers."""


@dataclass(frozen=True, slots=True)
class CacheShape:
    """What a graph's caches look like: the names of their inputs, and the shape of each."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    heads: tuple[int, ...]
    head_dim: tuple[int, ...]
    dtype: Any


class KVCache:
    """The KV cache of one sequence.

    ``tokens`` are the ids whose keys and values it holds. Buffers have room for ``capacity`` tokens, (1, kv_heads,
    capacity, head_dim) each; past and present are the same memory. Whoever binds them watches ``generation``, which
    grows whenever the buffers move.
    """

    def __init__(self, shape: CacheShape, context: int, capacity: int = SMALLEST) -> None:
        self.shape = shape
        self.context = context
        self.tokens: list[int] = []
        self.capacity = 0
        self.generation = 0
        self.buffers: list[NDArray[Any]] = []
        self.binding: Any = None
        """Kept by the session that runs over this cache."""
        self.reserve(capacity)

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def nbytes(self) -> int:
        """Bytes of the buffers; pages that were never written take no memory yet."""
        return sum(buffer.nbytes for buffer in self.buffers)

    def reserve(self, tokens: int) -> None:
        """Make room for ``tokens`` in all, growing at least by half so that a long answer copies little.

        Raises:
            ZooError: they are more than the context, or than memory holds.
        """
        if tokens <= self.capacity:
            return
        if tokens > self.context:
            raise ZooError(f"{tokens} tokens are more than the context of {self.context}")
        capacity = min(self.context, max(tokens, self.capacity * 3 // 2, SMALLEST))
        used = len(self.tokens)
        grown = []
        for index, (heads, size) in enumerate(zip(self.shape.heads, self.shape.head_dim, strict=True)):
            try:
                buffer = aligned((1, heads, capacity, size), self.shape.dtype)
            except MemoryError:
                needed = capacity * sum(map(operator.mul, self.shape.heads, self.shape.head_dim))
                needed *= np.dtype(self.shape.dtype).itemsize
                raise ZooError(f"a KV cache of {capacity} tokens takes {needed / 1e9:.2f} GB: too much") from None
            if used:
                buffer[:, :, :used] = self.buffers[index][:, :, :used]
                self.buffers[index] = buffer  # let the old one go before the next is made
            grown.append(buffer)
        self.buffers = grown
        self.capacity = capacity
        self.generation += 1

    def keep(self, tokens: int) -> None:
        """Forget everything after the first ``tokens`` tokens."""
        del self.tokens[tokens:]

    def common(self, ids: Sequence[int]) -> int:
        """Count the tokens at the beginning of ``ids`` that the cache holds already."""
        matched = 0
        for mine, other in zip(self.tokens, ids, strict=False):
            if mine != other:
                break
            matched += 1
        return matched


def aligned(shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
    """Make zeros that begin at a multiple of ``ALIGNMENT`` bytes; pages are taken when first written."""
    kind = np.dtype(dtype)
    nbytes = int(np.prod(shape, dtype=np.int64)) * kind.itemsize
    raw = np.zeros(nbytes + ALIGNMENT, np.uint8)
    start = -raw.ctypes.data % ALIGNMENT
    return raw[start : start + nbytes].view(kind).reshape(shape)
