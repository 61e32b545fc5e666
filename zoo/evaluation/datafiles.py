"""Where a task's files are: in a folder, in a zip archive, or one file by itself; read by their paths inside."""

from __future__ import annotations

import fnmatch
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from zoo.datasets.streams import check_entries
from zoo.errors import ZooError
from zoo.sources.jsonfile import read_bytes

MAX_FILE = 2**29
"""Bytes of one file of a task's data, which is read whole."""
INNER = ("", "data/")
"""An archive may hold its files under this folder; either that or its parent may be named."""


class DataFiles(Protocol):
    """Files by their paths, with forward slashes."""

    label: str
    """What to call the whole in messages."""

    def match(self, pattern: str) -> Sequence[str]:
        """List the files of a pattern, sorted; ``*`` stands for any characters but a slash."""
        ...

    def tops(self) -> Sequence[str]:
        """List what lies at the top, sorted: for messages."""
        ...

    def read(self, path: str) -> bytes:
        """Read one file."""
        ...


class FolderFiles:
    """The files of a folder."""

    def __init__(self, folder: Path) -> None:
        self.label = str(folder)
        self._folder = folder

    def match(self, pattern: str) -> Sequence[str]:
        """List the files of a pattern, sorted."""
        paths = (path for path in self._folder.glob(pattern) if path.is_file())
        return sorted(path.relative_to(self._folder).as_posix() for path in paths)

    def tops(self) -> Sequence[str]:
        """List what lies at the top, sorted."""
        return sorted(path.name for path in self._folder.iterdir())

    def read(self, path: str) -> bytes:
        """Read one file."""
        return read_bytes(self._folder / path, MAX_FILE, f"{self.label}/{path}")


class ArchiveFiles:
    """The files of a zip archive, read where they are."""

    def __init__(self, path: Path) -> None:
        self.label = path.name
        try:
            self._archive = zipfile.ZipFile(path)
        except (OSError, ValueError, zipfile.BadZipFile, NotImplementedError) as error:
            raise ZooError(f"{path}: not a zip archive that can be read: {error}") from None
        entries = self._archive.infolist()
        check_entries(self.label, entries)
        self._sizes = {entry.filename: entry.file_size for entry in entries if not entry.is_dir()}
        self._paths = sorted(self._sizes)

    def match(self, pattern: str) -> Sequence[str]:
        """List the files of a pattern, sorted."""
        depth = pattern.count("/")
        return [path for path in self._paths if path.count("/") == depth and fnmatch.fnmatchcase(path, pattern)]

    def tops(self) -> Sequence[str]:
        """List what lies at the top, sorted."""
        return sorted({path.split("/")[0] for path in self._paths})

    def read(self, path: str) -> bytes:
        """Read one file."""
        if self._sizes.get(path, 0) > MAX_FILE:
            raise ZooError(f"{self.label}: {path} has {self._sizes[path]:,} bytes, more than {MAX_FILE:,}")
        try:
            return self._archive.read(path)
        except (
            EOFError, zlib.error, OSError, zipfile.BadZipFile, RuntimeError, NotImplementedError, UnicodeDecodeError
        ) as error:  # fmt: skip
            raise ZooError(f"{self.label}: {path} cannot be read: {error}") from None


class SingleFile:
    """One file, whatever it is called."""

    def __init__(self, path: Path) -> None:
        self.label = str(path.parent)
        self._path = path

    def match(self, pattern: str) -> Sequence[str]:
        """List the file, whatever it is called."""
        return [self._path.name] if "/" not in pattern else []

    def tops(self) -> Sequence[str]:
        """List the file."""
        return [self._path.name]

    def read(self, path: str) -> bytes:
        """Read the file."""
        return read_bytes(self._path, MAX_FILE)


def open_data(path: Path) -> DataFiles:
    """Open what ``--data`` names.

    Raises:
        ZooError: there is no such folder or file.
    """
    if path.is_dir():
        return FolderFiles(path)
    if path.suffix == ".zip" and path.is_file():
        return ArchiveFiles(path)
    if path.is_file():
        return SingleFile(path)
    raise ZooError(f"--data {path}: no such folder or file")


def find(data: DataFiles, patterns: Sequence[str]) -> list[str]:
    """Find the files of the first pattern that any match."""
    for inner in INNER:
        for pattern in patterns:
            paths = data.match(inner + pattern)
            if paths:
                return list(paths)
    return []
