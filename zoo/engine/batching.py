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
"""Tokens of a text that is measured on."""
CACHED = 2**17
"""Bytes of keys and values that texts are measured for: of a small model, where rounded values that differ are rare,
many texts, of a larger one a single text."""
TEXTS = 16


def batching_effect(session: Session) -> float:
    """Measure the largest difference of a logit between one token a step and all of a text in one step.

    Returns:
        The difference, in the unit of logits.
    """
    texts = max(1, min(TEXTS, CACHED // session.token_bytes))
    return max(_effect(session, seed) for seed in range(texts))


def _effect(session: Session, seed: int) -> float:
    count = min(PROBE, session.context)
    ids = np.random.default_rng(seed).integers(0, session.vocab_size, count).tolist()
    slots = session.new_slots(2, count)
    alone = np.stack([session.step(slots, [Row(0, [token])])[0][0].copy() for token in ids])
    together = session.step(slots, [Row(1, ids, count)])[0]
    return float(np.abs(alone - together).max())
