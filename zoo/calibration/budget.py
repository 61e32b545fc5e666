"""Which weights to store in more bits when only so many bytes more are allowed: a knapsack, filled by its best."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

UNITS = 8192
"""Into how many units the room is cut; sizes are rounded up to one, and what that leaves over is filled afterwards."""


def choose(gains: Sequence[float], sizes: Sequence[int], room: int) -> set[int]:
    """Choose the items that together gain the most.

    Args:
        gains: what each item gains; items that gain nothing are left.
        sizes: bytes that each takes; at least one.
        room: bytes that all of them may take.

    Returns:
        Indexes of the chosen items: the best choice for sizes in units of ``room / UNITS``, and what still fits then.
    """
    items = [one for one in range(len(gains)) if gains[one] > 0 and sizes[one] <= room]
    if sum(sizes[one] for one in items) <= room:
        return set(items)
    unit = -(-room // UNITS)
    best = np.zeros(UNITS + 1)
    taken = np.zeros((len(items), UNITS + 1), bool)
    for place, item in enumerate(items):
        need = -(-sizes[item] // unit)
        if need > UNITS:
            continue
        tried = best[: UNITS + 1 - need] + gains[item]
        taken[place, need:] = tried > best[need:]
        best[need:] = np.maximum(best[need:], tried)
    chosen, at = set(), room // unit
    for place in range(len(items) - 1, -1, -1):
        if taken[place, at]:
            chosen.add(items[place])
            at -= -(-sizes[items[place]] // unit)
    left = room - sum(sizes[one] for one in chosen)
    for item in sorted(set(items) - chosen, key=lambda one: (-gains[one] / sizes[one], one)):
        if sizes[item] <= left:
            chosen.add(item)
            left -= sizes[item]
    return chosen
