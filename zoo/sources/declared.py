"""A checkpoint that is nowhere, as an architecture's numbers say it must be: enough to plan with."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.contracts import Stamp, TensorInfo
from zoo.declarations.recipe import TransformPin
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
    digest: str = ""
    config: Mapping[str, Any] = field(default_factory=dict)
    checksums: Mapping[str, str] = field(default_factory=dict)
    revision: str | None = None
    transforms: tuple[TransformPin, ...] = ()
    folder: Path | None = None

    @classmethod
    def of(cls, shapes: Iterable[tuple[str, tuple[int, ...]]], name: str = "declared") -> DeclaredCheckpoint:
        """Make the headers of tensors of these names and shapes, float16, in one file."""
        return cls({one: TensorInfo(one, TYPE, shape, 2 * math.prod(shape), "declared") for one, shape in shapes}, name)

    @property
    def download_bytes(self) -> int:
        """What fetching the weights takes."""
        return sum(tensor.nbytes for tensor in self.tensors.values())

    def read(self, name: str, start: int, stop: int, out: NDArray[np.uint8] | None = None) -> NDArray[Any]:
        """Refuse: there is nothing to read."""
        raise ZooError(f"{self.name} is not on this machine, so {name!r} cannot be read")

    def companion(self, name: str) -> bytes | None:
        """There is nothing beside the weights yet."""
        return None

    def companions(self) -> tuple[str, ...]:
        """There is nothing beside the weights yet."""
        return ()

    def stamps(self) -> dict[str, Stamp]:
        """There are no files yet."""
        return {}

    def bring(self, progress: Callable[[Any], None] | None = None) -> DeclaredCheckpoint:
        """Refuse: it is a declaration."""
        raise ZooError(f"{self.name} is not on this machine; fetch it")

    def close(self) -> None:
        """Nothing is open."""
