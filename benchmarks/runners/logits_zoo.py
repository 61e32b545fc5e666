"""Write the logits of a zoo package at every position.

    logits_zoo.py PACKAGE TOKENS.npy LOGITS.npy

TOKENS is [windows, length]; LOGITS becomes float32 [windows, length, vocab].  With ZOO_ROWWISE=always they are those of
the graph for long prompts.
"""

import os
import sys

import numpy as np
from numpy.typing import NDArray

import zoo

package, tokens, out = sys.argv[1:4]
engine = zoo.open(package)


def logits(ids: list[int]) -> NDArray[np.float32]:
    if os.environ.get("ZOO_ROWWISE") != "always":
        return engine.logits(ids)
    if not engine.session.rowwise:
        raise SystemExit("there is no row-wise graph")
    return engine.session.forward(engine.session.new_cache(len(ids)), ids, len(ids), rowwise=True).copy()


np.save(out, np.stack([logits(ids.tolist()) for ids in np.load(tokens)]))
