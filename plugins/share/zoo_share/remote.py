"""A place that packages are pushed to and pulled from: ``oci://host/repository:tag`` or ``hf:organisation/name``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from zoo.declarations.manifest import Manifest
from zoo.errors import UsageError, ZooError
from zoo.sources.hub import is_offline
from zoo.sources.hub_errors import Place
from zoo.sources.transfer import Wanted

SCHEMES = ("oci://", "hf:")
SIGNATURE = "model.sig"
"""The signature beside a package's files, as ``model-signing`` names it."""
CARD = "README.md"

Step = Callable[[str, int, int], None]
"""Called with a file's name, how many files are done, and how many there are."""


@dataclass(frozen=True, slots=True)
class Upload:
    """A file to push."""

    name: str
    path: Path
    size: int
    sha256: str
    kind: Literal["weight", "config", "doc", "signature"]


class Remote(Protocol):
    """A package in a registry or on the hub."""

    location: str
    """As the user wrote it."""
    place: Place

    def files(self) -> Mapping[str, Wanted]:
        """List what it holds: where each file is, with its size and SHA-256 where they are stated.

        Raises:
            ZooError: it is not there, may not be read, or is not a package.
        """
        ...

    def push(self, uploads: Sequence[Upload], manifest: Manifest, step: Step | None = None) -> str:
        """Send files, those that are there already not again, and name what came to be.

        Raises:
            ZooError: it is not taken; what has arrived stays, and the same call goes on.
        """
        ...


def is_remote(text: str) -> bool:
    """Tell whether a text names a place in a registry or on the hub."""
    return text.startswith(SCHEMES)


def open_remote(location: str, *, plain_http: bool = False) -> Remote:
    """Find the place that a text names.

    Args:
        plain_http: speak to a registry without TLS; one on this machine is spoken to so anyway.

    Raises:
        UsageError: it is not a location, or an extra is not installed.
        ZooError: the network is off.
    """
    remote: Remote
    if location.startswith("oci://"):
        from zoo_share.oci import OciRemote

        remote = OciRemote(location, plain_http=plain_http)
    elif location.startswith("hf:"):
        from zoo_share.hub import HubRemote

        remote = HubRemote(location)
    else:
        raise UsageError(f"{location!r} is not oci://host/repository:tag or hf:organisation/name")
    if is_offline():
        raise ZooError(f"{location}: the network is off (--offline, or HF_HUB_OFFLINE)")
    return remote
