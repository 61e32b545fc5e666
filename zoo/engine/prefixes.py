"""Keys and values of texts that were computed before, so that a prompt that begins like one of them starts further on.

Texts are kept in blocks of tokens; a block is known by all tokens up to its end. Memory is bounded: what was not used
for longest goes first.
"""

from __future__ import annotations

import itertools
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from zoo.engine.cache import Slots

if TYPE_CHECKING:
    from numpy.typing import NDArray

BLOCK = 32
"""Tokens of a block."""

Key = tuple[int, tuple[int, ...]]
"""The number of the block before, and the block's own tokens: exact, where a hash of the text might be another's."""


@dataclass(frozen=True, slots=True)
class _Block:
    number: int
    saved: list[NDArray[Any]]


class PrefixCache:
    """Blocks of keys and values by the text that leads to them.

    Args:
        limit: bytes that all blocks may take; 0 keeps nothing.
        token_bytes: bytes that one token takes.
    """

    def __init__(self, limit: int, token_bytes: int) -> None:
        self.limit = limit
        self._block_bytes = token_bytes * BLOCK
        self._blocks: OrderedDict[Key, _Block] = OrderedDict()
        self._numbers = itertools.count(1)

    @property
    def nbytes(self) -> int:
        """Bytes of all blocks."""
        return len(self._blocks) * self._block_bytes

    def restore(self, slots: Slots, slot: int, ids: Sequence[int]) -> int:
        """Fill an empty slot with what is known of a prompt's beginning; its last token is always left to compute.

        Returns:
            Tokens that need not be computed.
        """
        number, found = 0, []
        for start in range(0, (len(ids) - 1) // BLOCK * BLOCK, BLOCK):
            key = number, tuple(ids[start : start + BLOCK])
            block = self._blocks.get(key)
            if block is None:
                break
            found.append((key, block))
            number = block.number
        for key, block in found:
            slots.restore(slot, key[1], block.saved)
        self._touch([key for key, _ in found])
        return len(found) * BLOCK

    def keep(self, slots: Slots, slot: int) -> None:
        """Copy the whole blocks of what a slot holds, as far as they are not known yet."""
        ids = slots.tokens[slot]
        number, used = 0, []
        most = self.limit // self._block_bytes * BLOCK
        for start in range(0, min(len(ids) // BLOCK * BLOCK, most), BLOCK):
            key = number, tuple(ids[start : start + BLOCK])
            block = self._blocks.get(key)
            if block is None:
                block = _Block(next(self._numbers), slots.save(slot, start, start + BLOCK))
                self._blocks[key] = block
            used.append(key)
            number = block.number
        self._touch(used)
        while self.nbytes > self.limit:
            self._blocks.popitem(last=False)

    def _touch(self, keys: Sequence[Key]) -> None:
        """Make blocks the most recently used, the first of a text the last to go: without it the others are lost."""
        for key in reversed(keys):
            self._blocks.move_to_end(key)
