"""A folder that holds a ``config.json`` but no weights: enough for a target that reads none."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.contracts import Stamp, TensorInfo
from zoo.declarations.base import digest
from zoo.declarations.recipe import TransformPin
from zoo.errors import ZooError
from zoo.sources.companions import CONFIG, MAX_COMPANION, MAX_CONFIG, NESTED, chosen
from zoo.sources.jsonfile import read_bytes, read_object
from zoo.sources.otherkinds import kind_of
from zoo.sources.weightfiles import absence

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class ConfigOnly:
    """A checkpoint whose weights are elsewhere (the ``Checkpoint`` protocol, without tensors)."""

    def __init__(self, folder: Path, name: str = "") -> None:
        self.folder: Path | None = folder
        self._folder = folder
        self.name = name or folder.resolve().name or "model"
        self.config: dict[str, Any] = read_object(folder / CONFIG, MAX_CONFIG, f"{self.name}/{CONFIG}")
        self.tensors: dict[str, TensorInfo] = {}
        self.checksums: Mapping[str, str] = {}
        self.revision: str | None = None
        self.transforms: tuple[TransformPin, ...] = ()
        self.download_bytes = 0

    @cached_property
    def digest(self) -> str:
        """SHA-256 over the configuration."""
        return digest({"config": self.config, "weights": {}})

    def companion(self, name: str) -> bytes | None:
        """Read a file beside the configuration, or None."""
        path = self._folder / name
        return read_bytes(path, MAX_COMPANION, f"{self.name}/{name}") if path.is_file() else None

    def companions(self) -> tuple[str, ...]:
        """Name the files beside the configuration that belong to a model, sorted."""
        return tuple(name for name in chosen([*os.listdir(self._folder), *NESTED]) if (self._folder / name).is_file())

    def stamps(self) -> dict[str, Stamp]:
        """There are no files of weights."""
        return {}

    def read(self, name: str, start: int, stop: int, out: NDArray[np.uint8] | None = None) -> NDArray[Any]:
        """Refuse: there is nothing to read."""
        raise ZooError(f"{self.name}: holds no weights, so {name!r} cannot be read")

    def bring(self, progress: Callable[[Any], None] | None = None) -> ConfigOnly:
        """Refuse: nothing says where the weights are."""
        names = sorted(os.listdir(self._folder))
        kind = kind_of(self._folder, names)
        raise ZooError(f"{self.name} {kind}" if kind else f"{self.name}: {absence(names)}")

    def close(self) -> None:
        """Nothing is open."""
