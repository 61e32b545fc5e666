"""Write the logits of a zoo package at every position.

    logits_zoo.py PACKAGE TOKENS.npy LOGITS.npy

TOKENS is [windows, length]; LOGITS becomes float32 [windows, length, vocab].
"""

import sys

import numpy as np

import zoo

package, tokens, out = sys.argv[1:4]
engine = zoo.open(package)
np.save(out, np.stack([engine.logits(ids.tolist()) for ids in np.load(tokens)]))
