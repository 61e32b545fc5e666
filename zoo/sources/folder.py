"""A checkpoint folder on disk: ``config.json``, its files of weights, and what lies beside them."""

from __future__ import annotations

import fnmatch
import hashlib
import os
import threading
from collections.abc import Iterator, Mapping
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.contracts import TensorInfo
from zoo.declarations.base import digest
from zoo.declarations.dtypes import BY_CODE
from zoo.errors import ZooError
from zoo.sources.companions import CONFIG, GENERATION, LICENCES, MAX_COMPANION, MAX_CONFIG, TOKENIZER
from zoo.sources.jsonfile import read_object
from zoo.sources.safetensors import MAX_HEADER, Header
from zoo.sources.weightfiles import absence, check_name, choose, header_of, is_index, read_headers

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_AHEAD = 16 * 2**20
"""How far ahead the system is told to read: some slabs."""


class Shards:
    """Open files of weights, read at positions, from any thread."""

    def __init__(self, folder: Path, sizes: dict[str, int], paths: dict[str, Path]) -> None:
        self.folder = folder
        self._sizes = sizes
        self._paths = paths
        self._files: dict[str, int] = {}
        self._lock = threading.Lock()
        # Reading a checkpoint that is large against the memory would push everything else out of the page cache.
        self._large = sum(sizes.values()) > _memory() // 3

    def descriptor(self, name: str) -> int:
        """Open a file once and keep it open."""
        with self._lock:
            if name not in self._files:
                try:
                    file = os.open(self._paths[name], os.O_RDONLY | getattr(os, "O_BINARY", 0))
                except OSError as error:
                    raise ZooError(f"{name}: {error.strerror or error}") from None
                self._files[name] = file
                _advise(file, 0, 0, "POSIX_FADV_SEQUENTIAL")
            return self._files[name]

    def read_into(self, name: str, offset: int, view: memoryview) -> None:
        """Fill ``view`` from a position of a file.

        Raises:
            ZooError: the file ends before, or cannot be read.
        """
        file, done, size = self.descriptor(name), 0, len(view)
        try:
            while done < size:
                got = os.preadv(file, [view[done:]], offset + done)
                if got == 0:
                    raise ZooError(
                        f"{name}: ends at byte {offset + done}, before its tensors do; it changed, fetch it again"
                    )
                done += got
        except OSError as error:
            raise ZooError(f"{name}: reading at byte {offset + done} failed: {error.strerror or error}") from None
        if size >= 2**20:
            # As much again, further on: advice that overlaps costs as much as reading.
            _advise(file, offset + _AHEAD, size, "POSIX_FADV_WILLNEED")
            if self._large:
                _advise(file, offset, size, "POSIX_FADV_DONTNEED")

    def stamps(self) -> dict[str, tuple[int, int]]:
        """Size and modification time (ns) of every file, as the disk says now."""
        result = {}
        for name in self._sizes:
            try:
                status = os.stat(self._paths[name])
            except OSError as error:
                raise ZooError(f"{name}: {error.strerror or error}") from None
            result[name] = (status.st_size, status.st_mtime_ns)
        return result

    def close(self) -> None:
        with self._lock:
            for file in self._files.values():
                os.close(file)
            self._files.clear()

    def __del__(self) -> None:
        self.close()


class FolderCheckpoint:
    """An opened checkpoint folder (the ``Checkpoint`` protocol)."""

    def __init__(self, folder: Path, headers: Mapping[str, Header] | None = None) -> None:
        self.folder = folder
        self.name = _label(folder)
        self.config: dict[str, Any] = read_object(_inside(folder, CONFIG), MAX_CONFIG, f"{self.name}/{CONFIG}")
        headers = dict(_headers(folder)) if headers is None else headers
        self.tensors: dict[str, TensorInfo] = {}
        self._offsets: dict[str, int] = {}
        self._strides: dict[str, tuple[int, ...]] = {}
        for file, header in headers.items():
            for name, info in header.tensors.items():
                if name in self.tensors:
                    raise ZooError(
                        f"tensor {name!r} is in {self.tensors[name].file} and in {file}; one of them is stale"
                    )
                self.tensors[name] = info
            self._offsets |= header.offsets
            self._strides |= header.strides
        self._weights = {file: [one.file_size, hashlib.sha256(one.raw).hexdigest()] for file, one in headers.items()}
        sizes = {file: header.file_size for file, header in headers.items()}
        self._shards = Shards(folder, sizes, {file: _inside(folder, file) for file in headers})

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over everything of the folder that decides a build's bits, but the weights themselves."""
        beside = {path.name: _hash_file(path) for path in self.companions()}
        return digest({"companions": beside, "weights": self._weights})

    def companions(self) -> list[Path]:
        """List the files beside the weights that a build reads or copies, by name."""
        names = [CONFIG, GENERATION, *TOKENIZER, *self.licences()]
        return [path for name in sorted(set(names)) if (path := self.path(name)) is not None]

    def licences(self) -> list[str]:
        """List the licence texts, by name."""
        return sorted(
            name for name in os.listdir(self.folder) if any(fnmatch.fnmatchcase(name.upper(), one) for one in LICENCES)
        )

    def path(self, filename: str) -> Path | None:
        """Find a file beside the weights, or None."""
        path = self.folder / filename
        if not path.is_file():
            return None
        return _inside(self.folder, filename)

    def read(self, name: str, start: int, stop: int, out: NDArray[np.uint8] | None = None) -> NDArray[Any]:
        """Read rows ``start`` to ``stop`` of a tensor, in the stored type; see ``Checkpoint``."""
        import numpy as np

        info = self.tensors[name]
        dtype = BY_CODE[info.dtype].numpy if info.dtype in BY_CODE else None
        if dtype is None:
            raise ZooError(f"{info.file}: tensor {name!r} is {info.dtype}, a type that is not read")
        rows = info.shape[0] if info.shape else 1
        row = info.nbytes // rows if rows else 0
        size = (stop - start) * row
        buffer = np.empty(size, np.uint8) if out is None else out[:size]
        if name in self._strides:
            from zoo.sources.strided import read_strided

            strides = self._strides[name]
            view = buffer.view(dtype).reshape(stop - start, *info.shape[1:])
            begin = self._offsets[name] + start * strides[0] * view.itemsize
            read_strided(partial(self._shards.read_into, info.file), view, begin, strides)
        elif size:
            self._shards.read_into(info.file, self._offsets[name] + start * row, buffer.data)
        return buffer.view(dtype).reshape(stop - start, *info.shape[1:])

    def stamps(self) -> dict[str, tuple[int, int]]:
        """Size and modification time (ns) of every file of weights."""
        return self._shards.stamps()

    def close(self) -> None:
        """Close the files of weights; reading opens them again."""
        self._shards.close()


def open_folder(path: Path) -> FolderCheckpoint:
    """Open a checkpoint folder, reading its headers and nothing else.

    Raises:
        ZooError: the folder is no checkpoint, or its files contradict each other; the message names the file.
    """
    if not path.is_dir():
        raise ZooError(f"{path}: {'not a folder' if path.exists() else 'no such folder'}")
    if not (path / CONFIG).exists():
        raise ZooError(f"{path}: no checkpoint, it holds no {CONFIG}")
    try:
        return FolderCheckpoint(path)
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
    """Find a file of the folder and refuse one that leads out of it.

    The hub's cache is a special case: its snapshots are links into the ``blobs`` folders of the cache.

    Raises:
        ZooError: the name is absolute, climbs with ``..``, or is a link that leaves.
    """
    check_name(name, where)
    try:
        home = folder.resolve()
        real = (folder / name).resolve()
    except (OSError, RuntimeError) as error:
        raise ZooError(f"{where}{name[:200]!r} cannot be followed: {error}") from None
    rooms = [home]
    if home.parent.name == "snapshots":
        # The library shares files between repositories through a second ``blobs`` folder beside theirs.
        rooms += [home.parent.parent / "blobs", home.parent.parent.parent / "blobs"]
    if not any(real.is_relative_to(room) for room in rooms):
        raise ZooError(f"{where}{name[:200]!r} is a link that leaves the folder; put the file itself there")
    return folder / name


def _label(folder: Path) -> str:
    """Name a checkpoint without its path: the hub id of a cache snapshot, or the folder's own name."""
    home = folder.resolve()
    if home.parent.name == "snapshots" and home.parent.parent.name.startswith("models--"):
        return home.parent.parent.name.removeprefix("models--").replace("--", "/", 1)
    return home.name or "checkpoint"


def _hash_file(path: Path) -> str:
    try:
        if path.stat().st_size > MAX_COMPANION:
            raise ZooError(f"{path.name}: larger than {MAX_COMPANION} bytes, which no such file is")
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ZooError(f"{path.name}: {error.strerror or error}") from None


def _advise(file: int, offset: int, size: int, advice: str) -> None:
    """Pass advice to the page cache where the system takes it."""
    if hasattr(os, "posix_fadvise"):
        import contextlib

        with contextlib.suppress(OSError):
            os.posix_fadvise(file, offset, size, getattr(os, advice))


def _memory() -> int:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return 8 * 2**30
