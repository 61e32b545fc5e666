"""The hub as a source: what the cache holds is opened there, anything else by its headers, over the network."""

from __future__ import annotations

from pathlib import Path

from zoo.contracts import Checkpoint
from zoo.errors import WeightsAbsent
from zoo.sources.folder import open_folder
from zoo.sources.hub import bring_companions, check_id, check_revision, is_hub_id, is_offline, locate, storage_folder
from zoo.sources.hub_errors import declared_licence
from zoo.sources.hub_remote import RemoteCheckpoint
from zoo.sources.repository import inspect
from zoo.terminal import command_line


class Hub:
    """Repositories by their id, ``organisation/name`` (the ``Source`` protocol)."""

    def recognise(self, location: str) -> bool:
        """Tell whether a text has the form of a hub id and no file or folder has that name."""
        return is_hub_id(location) and not Path(location).exists()

    def open(self, location: str, *, revision: str | None, offline: bool) -> Checkpoint:
        """Open a repository; what is not in the cache is read by its headers.

        Raises:
            UsageError: no hub id, or no revision.
            WeightsAbsent: it is not on this machine, and the network is off or not to be asked.
            ZooError: why not, and what to do.
        """
        check_id(location)
        wanted = revision or "main"
        check_revision(wanted)
        offline = is_offline(offline)
        snapshot = locate(location, wanted, offline=offline)
        if snapshot is not None:
            return open_folder(snapshot, hub=True)
        if offline:
            raise WeightsAbsent(
                f"{location} at {wanted} is not on this machine, and the network is off (--offline or "
                f"HF_HUB_OFFLINE); run `{command_line('zoo', 'fetch', location)}` with the network on"
            )
        remote = inspect(location, wanted, storage_folder(location), licence=declared_licence.get())
        bring_companions(remote)
        return RemoteCheckpoint(remote)
