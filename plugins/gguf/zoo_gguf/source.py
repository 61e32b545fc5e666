"""Where GGUF files are: a file, the parts of a set, or files in a hub repository."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Sequence
from pathlib import Path

from zoo import HubFiles, UsageError, ZooError, hub_location
from zoo_gguf.checkpoint import GgufCheckpoint, open_headers
from zoo_gguf.header import read_header

_PART = re.compile(r"(.*)-(\d{5})-of-(\d{5})\.gguf", re.IGNORECASE | re.DOTALL)
MAX_PARTS = 999


class GgufFiles:
    """``MODEL.gguf``, ``MODEL-00001-of-0000N.gguf``, ``org/name:FILE`` and ``org/name:PATTERN`` (a ``zoo.Source``)."""

    def recognise(self, location: str) -> bool:
        """Tell whether a text names a GGUF file, or files in a repository that may be GGUF."""
        path = Path(location).expanduser()
        if path.exists():
            return path.is_file() and (path.suffix.lower() == ".gguf" or _begins(path))
        return hub_location(location) is not None

    def open(self, location: str, *, revision: str | None, offline: bool) -> GgufCheckpoint:
        """Open by the headers."""
        place = hub_location(location)
        if place is None:
            path = Path(location).expanduser()
            if revision is not None:
                raise UsageError(f"{path.name}: a file, which has no revision {revision!r}")
            paths = {name: path.parent / name for name in parts(path.name)}
            missing = [name for name, part in paths.items() if not part.is_file()]
            if missing:
                more = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
                raise ZooError(f"{path.name}: its part {missing[0]} is missing{more}; fetch it again")
            return GgufCheckpoint(_set_name(path.name), open_headers(paths), paths)
        repository, pattern = place
        hub = HubFiles(repository, revision, lambda names: choose(names, pattern, repository), offline=offline)
        if hub.is_here:
            headers = open_headers(hub.paths)
        else:
            headers = {name: read_header(hub.reader(name), name) for name in hub.names}
        return GgufCheckpoint(f"{repository}:{hub.names[0]}", headers, hub.paths, hub)


def parts(name: str) -> list[str]:
    """Name all files of a set by one of them, the first first; a file of no set is its own.

    Raises:
        ZooError: numbers that no set has.
    """
    part = _PART.fullmatch(name)
    if part is None:
        return [name]
    number, count = int(part[2]), int(part[3])
    if not 0 < number <= count <= MAX_PARTS:
        raise ZooError(f"{name}: part {number} of {count} is not a part of a set")
    return [f"{part[1]}-{index:05d}-of-{part[3]}{name[-5:]}" for index in range(1, count + 1)]


def choose(names: Sequence[str], pattern: str, repository: str) -> list[str]:
    """Choose the files of a repository that a pattern means: one model, all its parts.

    Raises:
        ZooError: none match, several models do, or a part is missing.
    """
    listed = [name for name in names if name.lower().endswith(".gguf")]
    exact = [name for name in listed if name == pattern]
    matching = exact or [name for name in listed if fnmatch.fnmatch(name.lower(), pattern.lower())]
    models = {parts(name)[0]: parts(name) for name in matching}
    if not models:
        held = f"it holds {', '.join(listed[:8])}{' …' if len(listed) > 8 else ''}" if listed else "it holds none"
        raise ZooError(f"{repository}: no GGUF file matches {pattern!r:.80}; {held}")
    if len(models) > 1:
        raise ZooError(f"{repository}: {pattern!r:.80} matches {len(models)} models: {', '.join(sorted(models)[:8])}")
    files = next(iter(models.values()))
    missing = [name for name in files if name not in names]
    if missing:
        raise ZooError(f"{repository}: the part {missing[0]} is missing")
    return files


def _set_name(name: str) -> str:
    part = _PART.fullmatch(name)
    return part[1] if part else Path(name).stem


def _begins(path: Path) -> bool:
    """Tell whether a file begins as GGUF does, whatever its name."""
    try:
        with path.open("rb") as file:
            return file.read(4) == b"GGUF"
    except OSError:
        return False
