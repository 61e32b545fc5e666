"""Chosen files of a hub repository, for sources of other formats: read at positions, brought into the shared cache.

A location names them as ``organisation/name:FILE``; FILE may be a pattern, as ``*Q8_0*``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from zoo.errors import WeightsAbsent, ZooError
from zoo.sources.bytereader import ByteReader
from zoo.sources.folder import hub_checksums
from zoo.sources.hub import PAGE, cached_snapshot, check_id, check_revision, is_offline, storage_folder
from zoo.sources.hub_errors import declared_licence
from zoo.sources.hub_remote import RangeReader
from zoo.sources.repository import Repository, inspect
from zoo.terminal import command_line

Choose = Callable[[Sequence[str]], Sequence[str]]
_LOCATION = re.compile(r"([A-Za-z0-9][\w.-]*/[\w.-]+):([^:\0\\]+)")


def split_location(text: str) -> tuple[str, str] | None:
    """Take ``organisation/name:FILE`` apart; None for another text, and for the name of a file or folder here."""
    location = _LOCATION.fullmatch(text)
    return (location[1], location[2]) if location and not Path(text).exists() else None


class HubFiles:
    """Files of one revision of a repository.

    Args:
        repository: a hub id.
        revision: a branch, a tag or a commit; None for ``main``.
        choose: chooses the files among the names that the repository, or the cache, holds; it raises ``ZooError`` where
            they are not all there.
        offline: look into the cache alone.

    Raises:
        WeightsAbsent: they are not on this machine, and the network is off or not to be asked.
        ZooError: why not, and what to do.
    """

    def __init__(self, repository: str, revision: str | None, choose: Choose, *, offline: bool) -> None:
        check_id(repository)
        wanted = revision or "main"
        check_revision(wanted)
        storage = storage_folder(repository)
        self.repository = repository
        self._remote: Repository | None = None
        snapshot = cached_snapshot(storage, wanted)
        cached = _chosen(snapshot, choose) if snapshot is not None else None
        if snapshot is not None and cached is not None:
            self.names, self.commit, self._snapshot = cached, snapshot.name, snapshot
            return
        if is_offline(offline):
            raise WeightsAbsent(
                f"the files of {repository} at {wanted} are not on this machine, and the network is off (--offline or "
                f"HF_HUB_OFFLINE); run `{command_line('zoo', 'fetch')}` with the network on"
            )
        remote = inspect(repository, wanted, storage, licence=declared_licence.get())
        self.names = list(choose(remote.files))
        self.commit, self._snapshot, self._remote = remote.commit, remote.snapshot, remote

    @property
    def missing_bytes(self) -> int:
        """What ``bring`` will fetch."""
        missing = self._remote.missing(self.names) if self._remote is not None else []
        return sum(file.wanted.size or 0 for file in missing)

    @property
    def paths(self) -> dict[str, Path]:
        """Where each file is, or will be."""
        return {name: self._snapshot / name for name in self.names}

    @property
    def is_here(self) -> bool:
        """Whether all of them are on this machine."""
        return self._remote is None or not self._remote.missing(self.names)

    def reader(self, name: str) -> ByteReader:
        """Read a file that is not here yet at positions, by range requests."""
        assert self._remote is not None
        return RangeReader(self._remote.describe(name).wanted, self._snapshot / name, self._remote.place)

    def checksums(self) -> Mapping[str, str]:
        """Give the SHA-256 of every file, where the hub states them; otherwise nothing."""
        if self._remote is None:
            return hub_checksums(self.paths)
        stated = {name: self._remote.describe(name).wanted.sha256 for name in self.names}
        return {name: known for name, known in stated.items() if known} if all(stated.values()) else {}

    def bring(self, progress: Callable[[Any], None] | None = None) -> None:
        """Fetch what is missing, and the repository's page, which states the licence."""
        if self._remote is not None:
            self._remote.pull([name for name in (PAGE,) if name in self._remote.files])
            self._remote.pull(self.names, progress=progress)
            self._remote.keep_revision()

    def page(self) -> bytes | None:
        """Read the repository's page, where the cache has it."""
        path = self._snapshot / PAGE
        return path.read_bytes() if path.is_file() else None


def _chosen(snapshot: Path, choose: Choose) -> list[str] | None:
    """Choose among the files of a snapshot; None where they are not all there."""
    names = sorted(path.relative_to(snapshot).as_posix() for path in snapshot.rglob("*") if path.is_file())
    try:
        return list(choose(names))
    except ZooError:
        return None
