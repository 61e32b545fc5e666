"""Folders on disk as sources: safetensors, and PyTorch's ``.bin``."""

from __future__ import annotations

import os
from pathlib import Path

from zoo.errors import UsageError
from zoo.sources.companions import CONFIG
from zoo.sources.folder import FolderCheckpoint, open_folder
from zoo.sources.weightfiles import choose, is_pickled


class SafetensorsFolder:
    """Folders with a ``config.json`` and safetensors (the ``Source`` protocol)."""

    def recognise(self, location: str) -> bool:
        """Tell whether a folder holds safetensors that are read; they come before ``.bin``."""
        choice = weights_choice(location)
        return choice is not None and not is_pickled(choice)

    def open(self, location: str, *, revision: str | None, offline: bool) -> FolderCheckpoint:
        """Open a folder by its headers."""
        return _open(location, revision)


class BinFolder:
    """Folders with a ``config.json`` and PyTorch's ``.bin`` files alone (the ``Source`` protocol)."""

    def recognise(self, location: str) -> bool:
        """Tell whether a folder holds ``.bin`` files and no safetensors."""
        choice = weights_choice(location)
        return choice is not None and is_pickled(choice)

    def open(self, location: str, *, revision: str | None, offline: bool) -> FolderCheckpoint:
        """Open a folder by its headers; nothing that the files hold is run."""
        return _open(location, revision)


def weights_choice(location: str) -> str | None:
    """Name the file of a folder that its weights begin with; None where it is not a checkpoint."""
    folder = Path(location).expanduser()
    try:
        names = os.listdir(folder)
    except OSError:
        return None
    return choose(names) if CONFIG in names else None


def _open(location: str, revision: str | None) -> FolderCheckpoint:
    folder = Path(location).expanduser()
    if revision is not None:
        raise UsageError(f"{folder.name}: a folder, which has no revision {revision!r}")
    return open_folder(folder)
