"""A checkpoint folder on disk: ``config.json``, its files of weights, and what lies beside them."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.contracts import Checkpoint, Stamp, TensorInfo, flat_shape
from zoo.declarations.base import digest
from zoo.declarations.dtypes import BY_CODE
from zoo.declarations.recipe import TransformPin
from zoo.errors import ZooError
from zoo.sources.buffers import is_buffer
from zoo.sources.companions import CONFIG, MAX_COMPANION, MAX_CONFIG, NESTED, chosen
from zoo.sources.jsonfile import read_bytes, read_object
from zoo.sources.safetensors import MAX_HEADER, Header
from zoo.sources.samples import sampled_digest
from zoo.sources.shards import Shards
from zoo.sources.weightfiles import absence, check_name, choose, header_of, is_index, read_headers

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class FolderCheckpoint:
    """An opened checkpoint folder (the ``Checkpoint`` protocol).

    Args:
        folder: where it is.
        headers: of its files of weights, where they were read already.
        hub: it was asked for by its hub id, and is known by what the hub says of it; otherwise it is any folder.
    """

    def __init__(self, folder: Path, headers: Mapping[str, Header] | None = None, *, hub: bool = False) -> None:
        self.folder = folder
        self._hub = hub
        self.name = _label(folder)
        self.config: dict[str, Any] = read_object(_inside(folder, CONFIG), MAX_CONFIG, f"{self.name}/{CONFIG}")
        headers = dict(_headers(folder)) if headers is None else headers
        self.tensors: dict[str, TensorInfo] = {}
        self._offsets: dict[str, int] = {}
        self._strides: dict[str, tuple[int, ...]] = {}
        for file, header in headers.items():
            for name, info in header.tensors.items():
                if is_buffer(name):
                    continue
                if name in self.tensors:
                    raise ZooError(
                        f"tensor {name!r} is in {self.tensors[name].file} and in {file}; one of them is stale"
                    )
                self.tensors[name] = narrowed(info)
            self._offsets |= header.offsets
            self._strides |= header.strides
        self._weights = {file: [one.file_size, hashlib.sha256(one.raw).hexdigest()] for file, one in headers.items()}
        sizes = {file: header.file_size for file, header in headers.items()}
        self._headers = headers
        self._paths = {file: _inside(folder, file) for file in headers}
        self._shards = Shards(sizes, self._paths)

    @cached_property
    def digest(self) -> str:
        """Name everything of the folder that decides a build's bits; see ``Checkpoint``."""
        samples = lambda: [self._weights, sampled_digest(self._paths, self._headers)]  # noqa: E731
        return content_digest(companion_hashes(self), self.checksums, samples)

    @cached_property
    def checksums(self) -> Mapping[str, str]:
        """SHA-256 of each file, where the hub vouches for it: its cache names files by theirs."""
        return hub_checksums(self._paths) if self._hub else {}

    @property
    def revision(self) -> str | None:
        """The commit, where the folder is a snapshot in the hub's cache."""
        home = self.folder.resolve()
        return home.name if home.parent.name == "snapshots" else None

    @property
    def transforms(self) -> tuple[TransformPin, ...]:
        """Nothing was done to the tensors."""
        return ()

    @property
    def download_bytes(self) -> int:
        """Everything is here."""
        return 0

    def companions(self) -> tuple[str, ...]:
        """Name the files beside the weights that a build reads or copies, sorted."""
        return tuple(name for name in chosen([*os.listdir(self.folder), *NESTED]) if (self.folder / name).is_file())

    def companion(self, name: str) -> bytes | None:
        """Read a file beside the weights, or None."""
        if not (self.folder / name).is_file():
            return None
        return read_bytes(_inside(self.folder, name), MAX_COMPANION, f"{self.name}/{name}")

    def read(self, name: str, start: int, stop: int, out: NDArray[np.uint8] | None = None) -> NDArray[Any]:
        """Read rows ``start`` to ``stop`` of a tensor, in the stored type; see ``Checkpoint``.

        Float64 comes as float32; what is too large for that becomes infinite, which a build refuses.
        """
        info, stored = self.tensors[name], self._headers[self.tensors[name].file].tensors[name]
        if stored.dtype == info.dtype:
            return self._read_stored(info, start, stop, out)
        import numpy as np

        wide = self._read_stored(stored, start, stop, None)
        buffer = np.empty(wide.size * 4, np.uint8) if out is None else out[: wide.size * 4]
        narrow = buffer.view("<f4").reshape(wide.shape)
        with np.errstate(over="ignore"):
            narrow[...] = wide
        return narrow

    def _read_stored(self, info: TensorInfo, start: int, stop: int, out: NDArray[np.uint8] | None) -> NDArray[Any]:
        import numpy as np

        name = info.name
        dtype = BY_CODE[info.dtype].numpy if info.dtype in BY_CODE else ""
        if not dtype:
            raise ZooError(f"{info.file}: tensor {name!r} is {info.dtype}, a type that is not read")
        columns = flat_shape(info.shape)[1]
        row = columns * BY_CODE[info.dtype].nbytes
        size = (stop - start) * row
        buffer = np.empty(size, np.uint8) if out is None else out[:size]
        shape = (stop - start, columns) if len(info.shape) > 1 else (stop - start,)
        if (strides := self._strides.get(name)) is not None:
            from zoo.sources.strided import read_rows

            read = partial(self._shards.read_into, info.file)
            read_rows(read, buffer.view(dtype).reshape(shape), self._offsets[name], info.shape, strides, start)
        elif size:
            self._shards.read_into(info.file, self._offsets[name] + start * row, buffer.data)
        return buffer.view(dtype).reshape(shape)

    def read_columns(self, name: str, start: int, stop: int) -> NDArray[Any]:
        """Read columns of a matrix, a piece of each row; see ``ReadsColumns``."""
        import numpy as np

        info = self.tensors[name]
        dtype, (rows, columns) = BY_CODE[info.dtype], flat_shape(info.shape)
        if name in self._strides or self._headers[info.file].tensors[name].dtype != info.dtype:
            return self.read(name, 0, rows)[:, start:stop].copy()
        out = np.empty((rows, stop - start), dtype.numpy)
        for row in range(rows):
            at = self._offsets[name] + (row * columns + start) * dtype.nbytes
            self._shards.read_into(info.file, at, out[row].view(np.uint8).data)
        return out

    def stamps(self) -> dict[str, Stamp]:
        """Stamp every file of weights."""
        return self._shards.stamps()

    def bring(self, progress: Callable[[Any], None] | None = None) -> FolderCheckpoint:
        """Return this checkpoint: everything is here."""
        return self

    def close(self) -> None:
        """Close the files of weights; reading opens them again."""
        self._shards.close()


def companion_hashes(checkpoint: Checkpoint) -> dict[str, str]:
    """Hash the files beside the weights, by name."""
    names = checkpoint.companions()
    return {name: hashlib.sha256(checkpoint.companion(name) or b"").hexdigest() for name in names}


def content_digest(companions: Mapping[str, str], checksums: Mapping[str, str], samples: Callable[[], Any]) -> str:
    """Name a checkpoint's content.

    Args:
        companions: SHA-256 of the files beside the weights.
        checksums: SHA-256 of every file of weights, where the hub states them; otherwise empty.
        samples: says what else tells the weights apart.
    """
    return digest({"companions": dict(companions), "weights": dict(checksums) or samples()})


def hub_checksums(paths: Mapping[str, Path]) -> dict[str, str]:
    """Read the SHA-256 of files from the names that the hub's cache gives them; empty unless it knows all."""
    try:
        names = {file: path.resolve().name for file, path in paths.items()}
    except (OSError, RuntimeError):
        return {}
    return names if all(re.fullmatch("[0-9a-f]{64}", name) for name in names.values()) else {}


def narrowed(info: TensorInfo) -> TensorInfo:
    """Describe a tensor as it is read: float64 comes as float32, which is all that a build computes with."""
    return replace(info, dtype="F32", nbytes=info.nbytes // 2) if info.dtype == "F64" else info


def open_folder(path: Path, *, hub: bool = False) -> FolderCheckpoint:
    """Open a checkpoint folder, reading its headers and nothing else; see ``FolderCheckpoint``.

    Raises:
        ZooError: the folder is not a checkpoint, or its files contradict each other; the message names the file.
    """
    if not path.is_dir():
        raise ZooError(f"{path}: {'not a folder' if path.exists() else 'no such folder'}")
    if not (path / CONFIG).exists():
        raise ZooError(f"{path}: no checkpoint, it holds no {CONFIG}")
    try:
        return FolderCheckpoint(path, hub=hub)
    except PermissionError as error:
        raise ZooError(f"{error.filename}: {error.strerror}") from None


def _headers(folder: Path) -> Iterator[tuple[str, Header]]:
    """Read the header of every file of weights."""
    names = os.listdir(folder)
    choice = choose(names)
    if choice is None:
        raise ZooError(f"{_label(folder)}: {absence(names)}")
    index = read_object(_inside(folder, choice), MAX_HEADER, choice) if is_index(choice) else {}

    def open_header(file: str) -> Header:
        path = _inside(folder, file, f"{choice}: ")
        if not path.exists():
            raise ZooError(f"{_label(folder)}: {file} is missing, {choice} names it; fetch it again")
        return header_of(path, file, choice)

    yield from read_headers(choice, index, open_header)


def _inside(folder: Path, name: str, where: str = "") -> Path:
    """Find a file of the folder.

    Links are followed, since whoever made the folder put them there. A snapshot of the hub's cache was made of what a
    stranger lists: its links lead into the ``blobs`` folders of the cache, and nowhere else.

    Raises:
        ZooError: the name is absolute or climbs with ``..``, or a link of a snapshot leaves the cache.
    """
    check_name(name, where)
    path = folder / name
    try:
        home = folder.resolve()
        if home.parent.name == "snapshots":
            # The library shares files between repositories through a second ``blobs`` folder beside theirs.
            rooms = [home, *((above / "blobs").resolve() for above in home.parents[1:3])]
            if not any(path.resolve().is_relative_to(room) for room in rooms):
                raise ZooError(
                    f"{where}{name[:200]!r} is a link that leaves the hub's cache; put the file itself there"
                )
        if path.is_symlink() and not path.exists():
            raise ZooError(f"{where}{name[:200]!r} is a link to what is not there")
    except (OSError, RuntimeError) as error:
        raise ZooError(f"{where}{name[:200]!r} cannot be followed: {error}") from None
    return path


def _label(folder: Path) -> str:
    """Name a checkpoint without its path: the hub id of a cache snapshot, or the folder's own name."""
    home = folder.resolve()
    if home.parent.name == "snapshots" and home.parent.parent.name.startswith("models--"):
        return home.parent.parent.name.removeprefix("models--").replace("--", "/", 1)
    return home.name or "checkpoint"
