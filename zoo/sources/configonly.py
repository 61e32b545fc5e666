"""A folder that holds a ``config.json`` but no weights: enough for a target that reads none."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from zoo.declarations.base import digest
from zoo.errors import ZooError
from zoo.sources.companions import CONFIG, MAX_COMPANION, MAX_CONFIG, NESTED, chosen
from zoo.sources.declared import DeclaredCheckpoint
from zoo.sources.jsonfile import read_bytes, read_object
from zoo.sources.otherkinds import kind_of
from zoo.sources.weightfiles import absence


class ConfigOnly(DeclaredCheckpoint):
    """A checkpoint whose weights are elsewhere (the ``Checkpoint`` protocol, without tensors)."""

    def __init__(self, folder: Path, name: str = "") -> None:
        name = name or folder.resolve().name or "model"
        config = read_object(folder / CONFIG, MAX_CONFIG, f"{name}/{CONFIG}")
        super().__init__({}, name, digest({"config": config, "weights": {}}), config, folder=folder)
        self._folder = folder

    def companion(self, name: str) -> bytes | None:
        """Read a file beside the configuration, or None."""
        path = self._folder / name
        return read_bytes(path, MAX_COMPANION, f"{self.name}/{name}") if path.is_file() else None

    def companions(self) -> tuple[str, ...]:
        """Name the files beside the configuration that belong to a model, sorted."""
        return tuple(name for name in chosen([*os.listdir(self._folder), *NESTED]) if (self._folder / name).is_file())

    def bring(self, progress: Callable[[Any], None] | None = None) -> DeclaredCheckpoint:
        """Refuse: nothing says where the weights are."""
        names = sorted(os.listdir(self._folder))
        kind = kind_of(self._folder, names)
        raise ZooError(f"{self.name} {kind}" if kind else f"{self.name}: {absence(names)}")
