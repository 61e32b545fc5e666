"""Tensors that checkpoints carry and no model reads: tables that its code computes anew."""

from __future__ import annotations

import re

_BUFFER = re.compile(r"(^|\.)(rotary_emb\.)?(inv_freq|original_inv_freq|cos_cached|sin_cached|position_ids)$")


def is_buffer(name: str) -> bool:
    """Tell whether a tensor is a table of rotary angles or of positions, by its name."""
    return _BUFFER.search(name) is not None
