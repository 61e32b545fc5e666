"""Write the logits of a zoo package at every position.

    logits_zoo.py PACKAGE TOKENS.npy LOGITS.npy

TOKENS is [windows, length]; LOGITS becomes float32 [windows, length, vocab].
"""

import sys

import numpy as np

import zoo

package, tokens, out = sys.argv[1:4]
engine, windows = zoo.open(package), np.load(tokens)
made = None
for number, ids in enumerate(windows):
    logits = engine.logits(ids.tolist())
    made = np.lib.format.open_memmap(out, "w+", np.float32, (len(windows), *logits.shape)) if made is None else made
    made[number] = logits
