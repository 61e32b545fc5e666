"""How a checkpoint stores its weights, and what a build keeps of that."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import PurePath

from zoo.contracts import Checkpoint, block_scheme, stored_type
from zoo.declarations.base import Value
from zoo.declarations.scheme import BlockScheme
from zoo.package.layout import Layout


class Storage(Value):
    """What weights are stored in."""

    format: str | None = None
    """``safetensors``, ``bin``, ``gguf`` or what else a plugin reads; None where there are no weights."""
    quantization: str | None = None
    """The type or method that most weights are quantized by (``Q4_K``, ``gptq``); None where all are floats."""
    taken_over: int = 0
    """Parameters whose stored levels a package of their width keeps."""
    rounded: int = 0
    """Parameters that are quantized, and rounded a second time by such a build."""


def describe_storage(checkpoint: Checkpoint | None, layout: Layout | None = None) -> Storage:
    """Say how weights are stored, from their headers.

    Args:
        checkpoint: transformed as a build reads it.
        layout: the build to count for; None for one whose integers are as wide as most of the stored ones.
    """
    if checkpoint is None or not checkpoint.tensors:
        return Storage()
    types: Counter[str] = Counter()
    widths: Counter[int] = Counter()
    for name, info in checkpoint.tensors.items():
        kind, size = stored_type(checkpoint, name), math.prod(info.shape)
        if kind is not None:
            types[kind] += size
            scheme = block_scheme(checkpoint, name)
            widths[scheme.bits if scheme is not None else 0] += size
    if layout is None:
        taken = max((size for bits, size in widths.items() if bits), default=0)
        rounded = types.total() - taken
    else:
        taken = sum(placed.parameter.size for placed in layout.placed if layout.takes_over(placed.parameter))
        rounded = sum(
            placed.parameter.size
            for placed in layout.placed
            if isinstance(placed.scheme, BlockScheme)
            and not layout.takes_over(placed.parameter)
            and any(
                each.tensor in checkpoint.tensors and stored_type(checkpoint, each.tensor)
                for each in placed.parameter.slices
            )
        )
    file = next(iter(checkpoint.tensors.values())).file
    return Storage(
        format=PurePath(file).suffix.removeprefix(".") or None,
        quantization=types.most_common(1)[0][0] if types else None,
        taken_over=taken,
        rounded=rounded,
    )
