"""A package on disk: a closed world, in which nothing is read that its manifest does not list.

Everything is checked here, before any reader: each listed file is a regular file inside the folder with the size and
the SHA-256 that ``zoo.json`` states, and graphs keep their weights in the package's own data files. Readers get files
from ``Package.read`` and ``Package.file``, which know the listed ones only.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from pydantic import ValidationError

from zoo.declarations.manifest import FileRecord, HashMismatch, Manifest, parse_manifest
from zoo.errors import ZooError
from zoo.package.external import check_graph
from zoo.package.verified import REBUILD, Stamp, open_regular, remember_file, sha256_of

MANIFEST = "zoo.json"
MAX_MANIFEST = 64 * 2**20
MAX_FILES = 100_000
MAX_GRAPH = 2**28
"""Bytes of a graph without its weights."""


@dataclass(frozen=True, slots=True)
class Package:
    """A package folder that is whole: every listed file there, of the size and content that its manifest states."""

    path: Path
    manifest: Manifest
    stamps: Mapping[str, Stamp] = field(default_factory=dict, compare=False)
    """The state in which each file was checked."""
    manifest_sha256: str = field(default="", compare=False)
    """Of ``zoo.json``: names this package, whatever its recipe."""

    @property
    def name(self) -> str:
        """The folder's name, for messages."""
        return self.path.name

    def __fspath__(self) -> str:
        """The folder, so that what is built may be opened: ``zoo.open(zoo.build(...))``."""
        return str(self.path)

    def file(self, name: str) -> Path | None:
        """Find a listed file; None for what the package does not have."""
        return self.path / name if name in self.manifest.files else None

    def read(self, name: str) -> bytes | None:
        """Read a listed file and check its bytes; None for what the package does not have.

        Raises:
            ZooError: it was changed.
        """
        record = self.manifest.files.get(name)
        return None if record is None else read_record(self.path, name, record)

    def check_unchanged(self) -> None:
        """Check that no file was touched since the package was opened.

        Raises:
            ZooError: one was; what was made from it meanwhile must not be kept.
        """
        for name, stamp in self.stamps.items():
            descriptor, now = open_regular(self.path / name, f"{self.name}/{name}")
            os.close(descriptor)
            if now != stamp:
                raise ZooError(f"{self.name}/{name}: changed while it was used; try again")


def read_manifest(folder: Path) -> Manifest:
    """Read ``zoo.json`` of a folder.

    Raises:
        ZooError: there is none, or it is not one; the message says what is wrong.
    """
    return parse_bytes(read_manifest_bytes(folder), f"{folder.name}/{MANIFEST}")


def read_manifest_bytes(folder: Path) -> bytes:
    """Read the bytes of a folder's ``zoo.json``, no more of them than a manifest has.

    Raises:
        ZooError: it is missing, not a plain file, or too large.
    """
    where = f"{folder.name}/{MANIFEST}"
    if not os.path.lexists(folder / MANIFEST):
        raise ZooError(f"{folder}: not a package, it holds no {MANIFEST}")
    descriptor, stamp = open_regular(folder / MANIFEST, where)
    with os.fdopen(descriptor, "rb") as file:
        if stamp[2] > MAX_MANIFEST:
            raise ZooError(f"{where}: larger than {MAX_MANIFEST} bytes, too large for a manifest")
        try:
            return file.read(MAX_MANIFEST)
        except OSError as error:
            raise ZooError(f"{where}: {error.strerror or error}") from None


def parse_bytes(raw: bytes, where: str) -> Manifest:
    """Read the bytes of a ``zoo.json``.

    Raises:
        ZooError: they are not one; the message begins with ``where``.
    """
    try:
        manifest = parse_manifest(raw)
    except HashMismatch as error:
        raise ZooError(f"{where}: {error}; it was edited{REBUILD}") from None
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        at = ".".join(repr(str(step))[1:-1][:80] for step in first["loc"])
        raise ZooError(f"{where}: {f'{at}: ' if at else ''}{str(first['msg']).splitlines()[0][:200]}") from None
    except (ValueError, RecursionError) as error:
        raise ZooError(f"{where}: not JSON: {str(error).splitlines()[0][:200]}") from None
    if len(manifest.files) > MAX_FILES:
        raise ZooError(f"{where}: lists {len(manifest.files)} files, more than any package has")
    for name in manifest.files:
        if not _is_inside(name):
            raise ZooError(f"{where}: {name[:200]!r} is not a name of a file inside the package")
    return manifest


def _is_inside(name: str) -> bool:
    """Tell whether a name is a plain, relative path, written in the one usual way."""
    pure = PurePosixPath(name)
    return (
        str(pure) == name
        and name not in ("", ".", MANIFEST)
        and not pure.is_absolute()
        and ".." not in pure.parts
        and name.isprintable()
        and not any(character in name for character in '\\:*?"<>|')
    )


def open_package(path: Path, *, hashes: bool = False) -> Package:
    """Open a package folder and check that it is whole: every listed file, to the byte.

    The hash of a large file is remembered for as long as the file stays as it is.

    Args:
        path: the folder.
        hashes: read every file again, whatever is remembered.

    Raises:
        ZooError: a file is missing, changed, or not a file, or keeps its weights outside the folder.
    """
    if not path.is_dir():
        raise ZooError(f"{path}: {'not a folder' if path.exists() else 'no such package'}")
    raw = read_manifest_bytes(path)
    manifest = parse_bytes(raw, f"{path.name}/{MANIFEST}")
    _check_folders(path, manifest)
    stamps: dict[str, Stamp] = {}
    for name, record in manifest.files.items():  # what is quickly seen, before gigabytes are read
        size = _size(path, name)
        if size != record.size:
            raise _wrong_size(path, name, size, record.size)
        if name.endswith(".onnx"):
            check_graph(read_record(path, name, record), f"{path.name}/{name}", data_files(manifest))
    for name, record in manifest.files.items():
        digest, stamps[name] = sha256_of(path / name, f"{path.name}/{name}", again=hashes)
        if stamps[name][2] != record.size:
            raise _wrong_size(path, name, stamps[name][2], record.size)
        if digest != record.sha256:
            raise _wrong_hash(path, name)
    return Package(path, manifest, stamps, hashlib.sha256(raw).hexdigest())


def check_hashes(path: Path, manifest: Manifest) -> None:
    """Read every file of a package again and compare its SHA-256.

    Raises:
        ZooError: a file's bytes are not those that were built.
    """
    for name, record in manifest.files.items():
        if sha256_of(path / name, f"{path.name}/{name}", again=True)[0] != record.sha256:
            raise _wrong_hash(path, name)


def remember_files(path: Path, manifest: Manifest) -> None:
    """Note that the files of a package that this process wrote have the hashes of its manifest."""
    for name, record in manifest.files.items():
        remember_file(path / name, record.sha256)


def data_files(manifest: Manifest) -> dict[str, int]:
    """List the files that hold weights of a package's graphs, with their sizes, bytes."""
    return {name: record.size for name, record in manifest.files.items() if name.endswith(".data")}


def _check_folders(path: Path, manifest: Manifest) -> None:
    """Refuse a folder inside the package that is a link to elsewhere."""
    folders = {parent for name in manifest.files for parent in PurePosixPath(name).parents} - {PurePosixPath(".")}
    for folder in sorted(folders):
        inside = path / folder
        if inside.is_symlink():
            raise ZooError(f"{path.name}/{folder}: is a link, not a folder of the package{REBUILD}")


def _size(path: Path, name: str) -> int:
    """Tell the size of a listed file, which must be a regular file."""
    where = f"{path.name}/{name}"
    try:
        status = (path / name).lstat()
    except (FileNotFoundError, NotADirectoryError):
        raise ZooError(f"{where}: missing{REBUILD}") from None
    except (OSError, ValueError) as error:
        raise ZooError(f"{where}: {getattr(error, 'strerror', None) or error}") from None
    if stat.S_ISLNK(status.st_mode):
        raise ZooError(f"{where}: is a link, not a file of the package{REBUILD}")
    if not stat.S_ISREG(status.st_mode):
        raise ZooError(f"{where}: is not a regular file{REBUILD}")
    return status.st_size


def read_record(path: Path, name: str, record: FileRecord, limit: int = MAX_GRAPH) -> bytes:
    """Read a listed file whole and compare it with its record.

    Raises:
        ZooError: it is missing, not a regular file, changed, or larger than ``limit`` bytes.
    """
    where = f"{path.name}/{name}"
    if record.size > limit:
        raise ZooError(f"{where}: larger than {limit} bytes, too large for such a file")
    descriptor, stamp = open_regular(path / name, where)
    with os.fdopen(descriptor, "rb") as file:
        if stamp[2] != record.size:
            raise _wrong_size(path, name, stamp[2], record.size)
        try:
            raw = file.read(record.size + 1)
        except OSError as error:
            raise ZooError(f"{where}: {error.strerror or error}") from None
    if len(raw) != record.size or hashlib.sha256(raw).hexdigest() != record.sha256:
        raise _wrong_hash(path, name)
    return raw


def _wrong_size(path: Path, name: str, size: int, wanted: int) -> ZooError:
    return ZooError(f"{path.name}/{name}: {size} bytes, {MANIFEST} says {wanted}{REBUILD}")


def _wrong_hash(path: Path, name: str) -> ZooError:
    return ZooError(f"{path.name}/{name}: its SHA-256 is not the one in {MANIFEST}{REBUILD}")
