"""A checkpoint that is nowhere, as an architecture's numbers say it must be: enough to plan with."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.contracts import TensorInfo
from zoo.errors import ZooError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

TYPE = "F16"
"""The type that weights are assumed to be published in; BF16 takes as much."""


@dataclass
class DeclaredCheckpoint:
    """A checkpoint that exists by its headers only (the ``Checkpoint`` protocol, without weights)."""

    tensors: Mapping[str, TensorInfo]
    name: str = "declared"
    fingerprint: str = ""
    config: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, shapes: Iterable[tuple[str, tuple[int, ...]]], name: str = "declared") -> DeclaredCheckpoint:
        """Make the headers of tensors of these names and shapes, float16, in one file."""
        return cls({one: TensorInfo(one, TYPE, shape, 2 * math.prod(shape), "declared") for one, shape in shapes}, name)

    @property
    def nbytes(self) -> int:
        """What fetching the weights takes, bytes."""
        return sum(one.nbytes for one in self.tensors.values())

    def read(self, name: str, start: int, stop: int, out: NDArray[np.uint8] | None = None) -> NDArray[Any]:
        """Refuse: there is nothing to read."""
        raise ZooError(f"{self.name} is not on this machine, so {name!r} cannot be read")

    def path(self, filename: str) -> Path | None:
        """There is nothing beside the weights yet."""
        return None

    def licences(self) -> list[str]:
        """There is nothing beside the weights yet."""
        return []

    def stamps(self) -> dict[str, tuple[int, int]]:
        """There are no files yet."""
        return {}
