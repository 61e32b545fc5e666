"""A checkpoint that is not here, as its architecture's numbers say it must be: float16, every tensor, one file."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.contracts import TensorInfo
from zoo.errors import ZooError
from zoo.registry import Registry
from zoo.stages.resolve import Resolved

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class AssumedCheckpoint:
    """Enough of the ``Checkpoint`` protocol to plan with."""

    config: Mapping[str, Any]
    fingerprint = ""

    def __init__(self, registry: Registry, resolved: Resolved) -> None:
        architecture = resolved.recipe.architecture
        self.name = resolved.source.name
        self.config = {}
        self.tensors = {
            name: TensorInfo(name=name, dtype="F16", shape=shape, nbytes=2 * math.prod(shape), file="assumed")
            for name, shape in registry.architecture(architecture.type).tensors(architecture).items()
        }

    @property
    def nbytes(self) -> int:
        """What fetching the weights takes, bytes."""
        return sum(one.nbytes for one in self.tensors.values())

    def path(self, filename: str) -> Path | None:
        """There is nothing beside the weights yet."""
        return None

    def licences(self) -> list[str]:
        """There is nothing beside the weights yet."""
        return []

    def stamps(self) -> dict[str, tuple[int, int]]:
        """There are no files yet."""
        return {}

    def read(self, name: str, start: int, stop: int, out: NDArray[np.uint8] | None = None) -> NDArray[Any]:
        """Refuse: there is nothing to read."""
        raise ZooError(f"{self.name} is not on this machine")
