"""Steps whose results do not depend on what else is computed in them.

onnxruntime's kernels round a little otherwise where a step has one token, and where it has an odd number of them: the
last by itself. In the kernel of 8-bit weights a last bit may then become a step of a rounded activation. So every step
here has an even number of tokens, and of logits; an odd one out begins a token earlier, on a token that the cache holds
already, which is computed again. (Measured: with that, logits are the same to the bit whether a text is computed alone,
among others, or in pieces.)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from zoo.engine.session import LOGITS_BYTES, Row

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from zoo.engine.cache import Slots
    from zoo.engine.session import Session

FILLER = 0
"""A token after the end of a text, where there is none to begin earlier on; no position sees what comes after it."""


@dataclass(frozen=True)
class Part:
    """A text from some token on, even in all that counts.

    Attributes:
        ids: what to compute, an even number of tokens.
        start: how many tokens the slot must hold before.
        keep: of how many last positions logits are taken, an even number.
        cut: how many of those, at the end, are of a filler.
    """

    ids: list[int]
    start: int
    keep: int
    cut: int

    def row(self, slot: int) -> Row:
        """The row of a step that computes it."""
        return Row(slot, self.ids, self.keep)

    def wanted(self, logits: NDArray[np.float32], count: int) -> NDArray[np.float32]:
        """Take the rows of the last ``count`` positions of the text."""
        return logits[len(logits) - self.cut - count : len(logits) - self.cut]


def part_of(text: Sequence[int], start: int, keep: int) -> Part:
    """Make an even part of what a text has from a token on.

    Args:
        start: the first token that must be computed.
        keep: of how many last positions logits are wanted, at most those that must be computed.
    """
    ids, cut = list(text[start:]), 0
    if len(ids) % 2:
        if start:
            start -= 1
            ids.insert(0, text[start])
        else:
            ids.append(FILLER)
            cut = 1
    return Part(ids, start, keep + cut + (keep + cut) % 2, cut)


def compute(
    session: Session, slots: Slots, slot: int, text: Sequence[int], start: int, keep: int
) -> Iterator[NDArray[np.float32]]:
    """Bring one slot to hold a text, in steps that bound memory.

    Args:
        start: how many of the text's tokens the slot holds and may keep.
        keep: of how many last positions logits are wanted.

    Yields:
        Those logits in blocks, float32 (positions, vocab), each valid until the next.
    """
    part = part_of(text, start, keep)
    if part.cut and len(part.ids) > session.context:
        part = Part(list(text), 0, keep, 0)  # an odd context, full to its end: nothing can be made even
    slots.keep(slot, part.start)
    most = max(4, LOGITS_BYTES // (4 * session.vocab_size) // 2 * 2)
    first_kept = len(part.ids) - part.keep
    dropped = part.keep - part.cut - keep  # a position before those that are wanted, there to make them even
    at, left = 0, keep
    while at < len(part.ids):
        size = min(session.chunk(part.start + at), len(part.ids) - at)
        size = min(size, max(0, first_kept - at) + most)
        kept = max(0, at + size - max(at, first_kept))
        (logits,) = session.step(slots, [Row(slot, part.ids[at : at + size], kept)])
        at += size
        begin = min(dropped, kept)
        dropped -= begin
        block = logits[begin : min(kept, begin + left)]
        left -= len(block)
        if len(block):
            yield block
    slots.keep(slot, len(text))
