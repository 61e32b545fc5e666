"""Locations of weights, and the source that opens each."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.declarations.licence import Licence
from zoo.errors import UsageError, ZooError
from zoo.registry import Registry
from zoo.sources.hub_errors import declared_licence
from zoo.sources.otherkinds import explain

if TYPE_CHECKING:
    from zoo.contracts import Checkpoint

log = logging.getLogger("zoo")

HUB = "hub"
"""The source whose locations are hub ids, which recipes name."""


@dataclass(frozen=True)
class Location:
    """Where a command's weights come from; decided once."""

    text: str
    """A folder, a file, a hub id, or what else a source recognises."""
    source: str | None
    """The source that opens it, by name; None for a folder that holds a configuration and no weights."""
    revision: str | None = None

    @property
    def hub(self) -> str | None:
        """The hub id, or the files in a repository as ``organisation/name:FILE``, where it is one."""
        from zoo.sources.hub_files import split_location

        return self.text if self.source == HUB or split_location(self.text) is not None else None

    @property
    def is_path(self) -> bool:
        """Whether it is a file or a folder, which has no revisions."""
        return Path(self.text).expanduser().exists()

    def open(self, registry: Registry, *, offline: bool = False, licence: Licence | None = None) -> Checkpoint:
        """Open it by its headers.

        Args:
            offline: only what is on this machine.
            licence: the declared one, shown before anything is downloaded.

        Raises:
            WeightsAbsent: it is not on this machine, and ``offline`` is set or the network is off.
            ZooError: what is wrong with it, and what to do.
        """
        if self.source is None:
            from zoo.sources.configonly import ConfigOnly

            return ConfigOnly(Path(self.text).expanduser())
        from zoo.sources.hub import is_offline

        before = declared_licence.set(licence)
        try:
            source = registry.source(self.source)
            return source.open(self.text, revision=self.revision, offline=is_offline(offline))
        finally:
            declared_licence.reset(before)


def find_source(registry: Registry, text: str) -> str | None:
    """Name the source that recognises a location; None where none does.

    Raises:
        ZooError: several recognise it.
    """
    names = [name for name in registry.sources if _recognises(registry, name, text)]
    if len(names) > 1:
        raise ZooError(
            f"{text}: the sources {' and '.join(map(repr, names))} both recognise it; `zoo plugins` says who brings "
            "them, and ZOO_PLUGINS loads only those that are named"
        )
    return names[0] if names else None


def _recognises(registry: Registry, name: str, text: str) -> bool:
    """Ask a source; one that cannot be asked recognises nothing, and the others go on."""
    try:
        return registry.source(name).recognise(text)
    except Exception as error:  # a plugin's code
        log.warning("source %r failed on %s: %s", name, text, " ".join(f"{type(error).__name__}: {error}".split()))
        return False


def is_checkpoint(registry: Registry, path: Path) -> bool:
    """Tell whether a file or folder can be opened: as weights, or for its configuration alone."""
    return (path / "config.json").is_file() or find_source(registry, str(path)) is not None


def path_location(registry: Registry, path: Path, revision: str | None = None) -> Location:
    """Make a location of a file or folder.

    Raises:
        ZooError: no source opens it, and it holds no configuration either.
    """
    source = find_source(registry, str(path))
    if source is None and not (path / "config.json").is_file():
        raise ZooError(f"{path}: no such folder" if not path.exists() else f"{path} {explain(path)}")
    return Location(str(path), source, revision)


def given_location(registry: Registry, text: str, revision: str | None, option: str) -> Location:
    """Make a location of what a user names.

    Args:
        text: a folder, a file, a hub id, or what else a source recognises.
        option: the option that names it, for messages.

    Raises:
        UsageError: a revision of something that has none.
        ZooError: nothing opens it.
    """
    path = Path(text).expanduser()
    if path.exists():
        return path_location(registry, path, revision)
    source = find_source(registry, text)
    if source is None:
        raise ZooError(f"{option} {text}: no such folder, and not a hub id")
    return Location(text, source, revision)


def check_revision(location: Location, label: str, revision: str | None) -> None:
    """Refuse a revision of a file or folder.

    Raises:
        UsageError: it has none.
    """
    if revision is not None and location.is_path:
        raise UsageError(f"{label}: its weights are a folder, which has no revision {revision!r}")
