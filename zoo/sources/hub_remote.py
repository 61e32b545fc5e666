"""A checkpoint on the hub, opened by its headers: enough for a plan, before any weight is brought."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.declarations.licence import Licence
from zoo.errors import ZooError
from zoo.sources.folder import FolderCheckpoint, open_folder
from zoo.sources.hub import bring_companions, check_id, check_revision, is_offline, locate, storage_folder, weight_files
from zoo.sources.hub_errors import Place, attempt
from zoo.sources.jsonfile import read_object
from zoo.sources.parallel import each
from zoo.sources.repository import Repository, inspect
from zoo.sources.safetensors import MAX_HEADER, Header
from zoo.sources.transfer import Arrival, Wanted, continues
from zoo.sources.weightfiles import choose, header_from, is_index, read_headers

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_AHEAD = 256 * 2**10
"""Bytes asked for at once: most headers, and an archive's table of contents, fit in."""


class RemoteCheckpoint(FolderCheckpoint):
    """A checkpoint whose small files are in the cache and whose weights are still on the hub.

    Its configuration, tensors and fingerprint are those of the folder that a download will make.
    """

    def __init__(self, remote: Repository, headers: dict[str, Header], download_bytes: int) -> None:
        super().__init__(remote.snapshot, headers)
        self._sizes = {file: header.file_size for file, header in headers.items()}
        self.commit = remote.commit
        """The commit that the revision means."""
        self.licence: Licence | None = remote.place.licence
        self.download_bytes = download_bytes
        """What a build will bring before it begins."""

    def read(self, name: str, start: int, stop: int, out: NDArray[np.uint8] | None = None) -> NDArray[Any]:
        """Refuse: the weights are not here."""
        raise ZooError(f"{self.name}: its weights are not on this machine; run `zoo fetch {self.name}`")

    def stamps(self) -> dict[str, tuple[int, int]]:
        """Size of every file of weights; nothing here can change under a build."""
        return {file: (size, 0) for file, size in self._sizes.items()}


def remote_checkpoint(
    repository: str,
    revision: str = "main",
    *,
    licence: Licence | None = None,
    offline: bool = False,
    token: str | None = None,
    progress: Callable[[Arrival], None] | None = None,
) -> FolderCheckpoint:
    """Open a checkpoint by its headers, read by range requests; the small files are brought into the cache.

    What the cache holds already is opened there. ``download_bytes`` of a ``RemoteCheckpoint`` says what is missing.

    Raises:
        UsageError: no hub id, or no revision.
        ZooError: why not, and what to do.
    """
    check_id(repository)
    check_revision(revision)
    found = locate(repository, revision, offline=offline)
    if found is not None:
        return open_folder(found)
    if is_offline(offline):
        raise ZooError(f"{repository} at {revision} is not on this machine, and the network is off; fetch it first")
    remote = inspect(repository, revision, storage_folder(repository), licence=licence, token=token)
    bring_companions(remote, progress)
    names = weight_files(remote)
    choice = choose(remote.files)
    assert choice is not None

    def open_header(file: str) -> Header:
        local = remote.snapshot / file
        wanted = remote.describe(file).wanted
        return header_from(RangeSource(wanted, local, remote.place), file, choice, offsets=False)

    headers = dict(zip(names, each(open_header, names), strict=True))
    index = read_object(remote.snapshot / choice, MAX_HEADER, choice) if is_index(choice) else {}
    checked = dict(read_headers(choice, index, headers.__getitem__))
    return RemoteCheckpoint(remote, checked, sum(one.wanted.size or 0 for one in remote.missing(names)))


class RangeSource:
    """A file over HTTP, read at positions; what came once is kept."""

    def __init__(self, wanted: Wanted, local: Path, place: Place) -> None:
        if wanted.size is None:
            raise ZooError(f"{place.repository}: {place.host} does not say how large {wanted.name} is; fetch it")
        self.size = wanted.size
        self._wanted = wanted
        self._local = local
        self._place = place
        self._pieces: list[tuple[int, bytes]] = []

    def read_at(self, offset: int, size: int) -> bytes:
        """Read ``size`` bytes, fewer only where the file ends."""
        stop = min(offset + size, self.size)
        if stop <= offset:
            return b""
        for start, piece in self._pieces:
            if start <= offset and stop <= start + len(piece):
                return piece[offset - start : stop - start]
        start = max(min(offset, self.size - _AHEAD), 0)
        piece = self._ask(start, max(stop, min(start + _AHEAD, self.size)))
        self._pieces.append((start, piece))
        return piece[offset - start : stop - start]

    def _ask(self, start: int, stop: int) -> bytes:
        if self._local.exists():
            with self._local.open("rb") as file:
                file.seek(start)
                return file.read(stop - start)
        return attempt(lambda: self._request(start, stop), self._place)

    def _request(self, start: int, stop: int) -> bytes:
        from huggingface_hub import constants, get_session, hf_raise_for_status

        headers = {**self._wanted.headers, "Accept-Encoding": "identity", "Range": f"bytes={start}-{stop - 1}"}
        with get_session().stream(
            "GET",
            self._wanted.url,
            headers=headers,
            timeout=constants.HF_HUB_DOWNLOAD_TIMEOUT,
            follow_redirects=True,
        ) as response:
            hf_raise_for_status(response)
            if not continues(response, start):
                raise ZooError(
                    f"{self._place.repository}: {self._place.host} hands out no parts of files, so headers alone "
                    "cannot be read; run `zoo fetch` first"
                )
            body = b""
            for chunk in response.iter_bytes():
                body += chunk
                if len(body) >= stop - start:
                    break
        if len(body) < stop - start:
            raise ZooError(f"{self._place.repository}: {self._wanted.name} ends before its own size; try again")
        return body[: stop - start]
