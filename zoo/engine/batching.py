"""How far a token computed among others comes out from the same token by itself.

Kernels add up in another order when a step has several rows, and where activations are rounded to 8 bits a difference
in the last bit may become one in a rounded value. It matters only where the two best logits lie closer than that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from zoo.engine.session import Row

if TYPE_CHECKING:
    from zoo.engine.session import Session

PROBE = 24
"""Tokens of the text that is measured on."""


def batching_effect(session: Session, seed: int = 0) -> float:
    """Measure the largest difference of a logit between one token a step and all of a text in one step.

    Args:
        seed: of the text, random tokens.

    Returns:
        The difference, in the unit of logits.
    """
    count = min(PROBE, session.context)
    ids = np.random.default_rng(seed).integers(0, session.vocab_size, count).tolist()
    slots = session.new_slots(2, count)
    alone = np.stack([session.step(slots, [Row(0, [token])])[0][0].copy() for token in ids])
    together = session.step(slots, [Row(1, ids, count)])[0]
    return float(np.abs(alone - together).max())
