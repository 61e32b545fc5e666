"""Try whether this machine multiplies unsigned activations by signed weights without overflow."""

from __future__ import annotations

from functools import cache

import numpy as np

from zoo.engine.rowwise.rewrite import LEVELS, MS, PRODUCT
from zoo.targets.ort.probes import run_node

SIZE = 64


@cache
def signed_is_exact() -> bool:
    """Multiply the largest activations by the largest weights, and compare with the right result."""
    inputs = {
        "levels": np.full((SIZE, SIZE), 255, np.uint8),
        "weight": np.full((SIZE, SIZE), LEVELS, np.int8),
        "scale": np.float32(1),
        "scales": np.ones(SIZE, np.float32),
        "zero_point": np.uint8(128),
    }
    (found,) = run_node(f"{MS}::{PRODUCT}", {name: np.asarray(value) for name, value in inputs.items()})
    return bool((found == SIZE * (255 - 128) * LEVELS).all())
