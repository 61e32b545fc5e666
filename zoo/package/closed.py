"""Files of a folder, for readers: of a package only what its manifest lists, of another folder whatever is there."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from zoo.package.folder import MANIFEST, read_manifest, read_record
from zoo.sources.jsonfile import read_bytes


def files_of(folder: Path, limit: int) -> Callable[[str], bytes | None]:
    """Return the reader of a folder's files: name → bytes, or None where there is no such file.

    What lies in a package and is not listed is not there; what is listed is compared with its size and SHA-256.

    Args:
        folder: a package, a checkpoint, any folder.
        limit: bytes that a file may have.

    Raises:
        ZooError: there is a ``zoo.json`` that is not a manifest. The reader: a file was changed, or is larger.
    """
    manifest = read_manifest(folder) if os.path.lexists(folder / MANIFEST) else None

    def read(name: str) -> bytes | None:
        if manifest is not None:
            record = manifest.files.get(name)
            return None if record is None else read_record(folder, name, record, limit)
        path = folder / name
        return read_bytes(path, limit, f"{folder.name}/{name}") if path.is_file() else None

    return read


def has_file(folder: Path, name: str) -> bool:
    """Tell whether a folder has a file for readers; see ``files_of``."""
    if os.path.lexists(folder / MANIFEST) and name not in read_manifest(folder).files:
        return False
    return (folder / name).is_file()
