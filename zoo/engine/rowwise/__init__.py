"""A second way for long prompts: one scale for a whole row of activations, and one for a whole row of weights.

A product of many tokens is faster where it adds up integers to the end, without a scale for every block. Such weights
are a second copy, in the cache beside the prepared ones, and long prompts use them only where a trial on this machine
found them faster, and no less exact than a verification could see.
"""

from zoo.engine.rowwise.record import Trial, due, find, recorded

__all__ = ["Trial", "due", "find", "recorded"]
