"""A checkpoint on the hub, opened by its headers: enough for a plan, before any weight is brought."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.contracts import Stamp, TensorInfo
from zoo.declarations.recipe import TransformPin
from zoo.errors import ZooError
from zoo.sources.configonly import ConfigOnly
from zoo.sources.folder import FolderCheckpoint, companion_hashes, content_digest, open_folder
from zoo.sources.hub import bring_weights, weight_files
from zoo.sources.hub_errors import Place, attempt
from zoo.sources.jsonfile import read_object
from zoo.sources.parallel import each
from zoo.sources.repository import Repository
from zoo.sources.safetensors import MAX_HEADER, Header
from zoo.sources.transfer import Wanted, continues
from zoo.sources.weightfiles import choose, header_from, is_index, read_headers
from zoo.terminal import command_line

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


_AHEAD = 256 * 2**10
"""Bytes asked for at once: most headers, and an archive's table of contents, fit in."""


class RemoteCheckpoint:
    """A checkpoint whose small files are in the cache and whose weights are still on the hub.

    Its configuration, tensors and digest are those of the folder that a download will make; headers are read, by range
    requests, when they are first asked for.

    Args:
        remote: the revision; its small files are in the cache.
    """

    def __init__(self, remote: Repository) -> None:
        self._remote = remote
        self._beside = ConfigOnly(remote.snapshot, remote.place.repository)
        self.name = remote.place.repository
        self.config: Mapping[str, Any] = self._beside.config
        self.revision: str | None = remote.commit
        self.transforms: tuple[TransformPin, ...] = ()
        self.folder: Path | None = None

    @property
    def tensors(self) -> Mapping[str, TensorInfo]:
        """Every tensor, by name."""
        return self._opened.tensors

    @cached_property
    def digest(self) -> str:
        """Name the content: as the download will have it, where the hub states what it holds."""
        return content_digest(companion_hashes(self), self.checksums, self._described)

    def _described(self) -> dict[str, Any]:
        return {file: [one.file_size, sha256(one.raw).hexdigest()] for file, one in self._headers.items()}

    @cached_property
    def checksums(self) -> Mapping[str, str]:
        """SHA-256 of files of weights, as the hub states them."""
        stated = {name: self._remote.describe(name).wanted.sha256 for name in self._names}
        return {name: one for name, one in stated.items() if one} if all(stated.values()) else {}

    @cached_property
    def download_bytes(self) -> int:
        """What a build will bring before it begins."""
        return sum(file.wanted.size or 0 for file in self._remote.missing(self._names))

    def read(self, name: str, start: int, stop: int, out: NDArray[np.uint8] | None = None) -> NDArray[Any]:
        """Refuse: the weights are not here."""
        raise ZooError(
            f"{self.name}: its weights are not on this machine; run `{command_line('zoo', 'fetch', self.name)}`"
        )

    def companion(self, name: str) -> bytes | None:
        """Read a file beside the weights, or None."""
        return self._beside.companion(name)

    def companions(self) -> tuple[str, ...]:
        """Name the files beside the weights that a build reads or copies, sorted."""
        return self._beside.companions()

    def stamps(self) -> dict[str, Stamp]:
        """Size of every file of weights; nothing here can change under a build."""
        return {file: (0, 0, header.file_size, 0, 0) for file, header in self._headers.items()}

    def bring(self, progress: Callable[[Any], None] | None = None) -> FolderCheckpoint:
        """Fetch the weights, and open the snapshot that is whole now."""
        bring_weights(self._remote, progress)
        return open_folder(self._remote.snapshot, hub=True)

    def close(self) -> None:
        """Nothing is open."""

    @cached_property
    def _names(self) -> list[str]:
        return weight_files(self._remote)

    @cached_property
    def _headers(self) -> dict[str, Header]:
        remote, names = self._remote, self._names
        choice = choose(remote.files)
        assert choice is not None  # bring_companions saw it

        def open_header(file: str) -> Header:
            reader = RangeReader(remote.describe(file).wanted, remote.snapshot / file, remote.place)
            return header_from(reader, file, choice, offsets=False)

        headers = dict(zip(names, each(open_header, names), strict=True))
        index = read_object(remote.snapshot / choice, MAX_HEADER, choice) if is_index(choice) else {}
        return dict(read_headers(choice, index, headers.__getitem__))

    @cached_property
    def _opened(self) -> FolderCheckpoint:
        """The snapshot as it will be."""
        return FolderCheckpoint(self._remote.snapshot, self._headers)


class RangeReader:
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
                    f"{self._place.repository}: {self._place.host} does not serve ranges of files, so headers alone "
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
