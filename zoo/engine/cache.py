"""Keys and values: one buffer a layer and kind, with a slot for each sequence, read and written in place."""

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

    @property
    def token_bytes(self) -> int:
        """Bytes that one token takes in one slot."""
        return int(sum(map(operator.mul, self.heads, self.head_dim)) * np.dtype(self.dtype).itemsize)


class Slots:
    """The KV caches of several sequences, side by side.

    ``tokens[s]`` are the ids whose keys and values slot s holds. Buffers are (slots, kv_heads, capacity, head_dim), so
    neighbouring slots can be handed to one step as they lie; past and present are the same memory. Whoever binds them
    watches ``generation``, which grows whenever the buffers move.
    """

    def __init__(self, shape: CacheShape, context: int, count: int = 1, capacity: int = SMALLEST) -> None:
        self.shape = shape
        self.context = context
        self.tokens: list[list[int]] = [[] for _ in range(count)]
        self.capacity = 0
        self.generation = 0
        self.buffers: list[NDArray[Any]] = []
        self.bindings: dict[tuple[int, int], Any] = {}
        """Kept by the session that runs over these slots."""
        self.reserve(min(capacity, context))

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def nbytes(self) -> int:
        """Bytes of the buffers; pages that were never written take no memory yet."""
        return sum(buffer.nbytes for buffer in self.buffers)

    def reserve(self, tokens: int) -> None:
        """Make room for ``tokens`` in every slot, growing at least by half so that a long answer copies little.

        Raises:
            ZooError: they are more than the context, or than memory holds.
        """
        if tokens <= self.capacity:
            return
        if tokens > self.context:
            raise ZooError(f"{tokens} tokens are more than the context of {self.context}")
        capacity = min(self.context, max(tokens, self.capacity * 3 // 2, SMALLEST))
        used = max(map(len, self.tokens))
        grown = []
        for index, (heads, size) in enumerate(zip(self.shape.heads, self.shape.head_dim, strict=True)):
            try:
                buffer = aligned((len(self), heads, capacity, size), self.shape.dtype)
            except MemoryError:
                needed = capacity * len(self) * self.shape.token_bytes
                raise ZooError(f"a KV cache of {capacity} tokens takes {needed / 1e9:.2f} GB: too much") from None
            if used:
                for slot, tokens_here in enumerate(self.tokens):
                    buffer[slot, :, : len(tokens_here)] = self.buffers[index][slot, :, : len(tokens_here)]
                self.buffers[index] = buffer  # let the old one go before the next is made
            grown.append(buffer)
        self.buffers = grown
        self.capacity = capacity
        self.generation += 1
        self.bindings.clear()

    def keep(self, slot: int, tokens: int) -> None:
        """Forget everything of a sequence after its first ``tokens`` tokens."""
        del self.tokens[slot][tokens:]

    def copy(self, source: int, destination: int, tokens: int) -> None:
        """Make a slot hold what the first ``tokens`` tokens of another are, and nothing else."""
        for buffer in self.buffers:
            buffer[destination, :, :tokens] = buffer[source, :, :tokens]
        self.tokens[destination] = self.tokens[source][:tokens]

    def save(self, slot: int, start: int, stop: int) -> list[NDArray[Any]]:
        """Copy the keys and values of some tokens, one array (kv_heads, tokens, head_dim) for each buffer."""
        return [buffer[slot, :, start:stop].copy() for buffer in self.buffers]

    def restore(self, slot: int, tokens: Sequence[int], saved: Sequence[NDArray[Any]]) -> None:
        """Append tokens whose keys and values were saved."""
        start = len(self.tokens[slot])
        stop = start + len(tokens)
        self.reserve(stop)
        for buffer, values in zip(self.buffers, saved, strict=True):
            buffer[slot, :, start:stop] = values
        self.tokens[slot].extend(tokens)

    def sequence(self, slot: int) -> KVCache:
        """One of the sequences by itself."""
        return KVCache(self, slot)


class KVCache:
    """The KV cache of one sequence: a slot, alone or among others."""

    def __init__(self, slots: Slots, slot: int = 0) -> None:
        self.slots = slots
        self.slot = slot

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def tokens(self) -> list[int]:
        """The ids whose keys and values it holds."""
        return self.slots.tokens[self.slot]

    @property
    def context(self) -> int:
        return self.slots.context

    @property
    def capacity(self) -> int:
        return self.slots.capacity

    def reserve(self, tokens: int) -> None:
        """Make room for ``tokens`` in all."""
        self.slots.reserve(tokens)

    def keep(self, tokens: int) -> None:
        """Forget everything after the first ``tokens`` tokens."""
        self.slots.keep(self.slot, tokens)

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
