"""Which texts are computed together: of nearly one length, so that little is padded and nothing outgrows the caches."""

from __future__ import annotations

from collections.abc import Sequence

TOKENS = 1024
"""Tokens of a batch, padding included, unless one text has more. Above, activations leave the processor's caches and a
token takes longer; measured from 256 to 16384 on a BERT base in float32 and int8."""
WASTE = 0.1
"""Share of a batch that may be padding where it could be cut shorter."""
SMALL = 128
"""Tokens under which a batch is filled up whatever is padded: calls cost more than padding there."""


def plan_batches(lengths: Sequence[int], tokens: int = TOKENS) -> list[list[int]]:
    """Divide texts into batches.

    Args:
        lengths: tokens of each text.
        tokens: of a batch at most, padding included.

    Returns:
        Batches of places in ``lengths``, the longest texts first.
    """
    order = sorted(range(len(lengths)), key=lambda index: -lengths[index])
    batches: list[list[int]] = []
    filled = width = 0
    for index in order:
        length = lengths[index]
        padded = width * (len(batches[-1]) + 1) if batches else 0
        fits = bool(batches) and padded <= tokens
        wasteful = padded > SMALL and padded - filled - length > WASTE * padded
        if not fits or wasteful:
            batches.append([])
            filled, width = 0, length
        batches[-1].append(index)
        filled += length
    return batches
