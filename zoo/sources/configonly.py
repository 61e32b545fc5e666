"""A folder that holds a ``config.json`` but no weights: enough for a target that reads none."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.contracts import TensorInfo
from zoo.declarations.base import digest
from zoo.errors import ZooError
from zoo.sources.companions import CONFIG, MAX_CONFIG
from zoo.sources.jsonfile import read_object

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class ConfigOnly:
    """A checkpoint whose weights are elsewhere (the ``Checkpoint`` protocol, without tensors)."""

    def __init__(self, folder: Path, name: str = "") -> None:
        self.folder = folder
        self.name = name or folder.resolve().name or "model"
        self.config: dict[str, Any] = read_object(folder / CONFIG, MAX_CONFIG, f"{self.name}/{CONFIG}")
        self.tensors: dict[str, TensorInfo] = {}

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over the configuration."""
        return digest({"config": self.config, "weights": {}})

    def path(self, filename: str) -> Path | None:
        """Find a file beside the configuration, or None."""
        path = self.folder / filename
        return path if path.is_file() else None

    def licences(self) -> list[str]:
        """List nothing: licences are copied with weights."""
        return []

    def stamps(self) -> dict[str, tuple[int, int]]:
        """There are no files of weights."""
        return {}

    def read(self, name: str, start: int, stop: int, out: NDArray[np.uint8] | None = None) -> NDArray[Any]:
        """Refuse: there is nothing to read."""
        raise ZooError(f"{self.name}: holds no weights, so {name!r} cannot be read")
