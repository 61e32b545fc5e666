"""A package on disk: opened, checked, trusted no further than its manifest."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from pydantic import ValidationError

from zoo.declarations.manifest import HashMismatch, Manifest, parse_manifest
from zoo.errors import ZooError
from zoo.package.external import external_files

MANIFEST = "zoo.json"
MAX_MANIFEST = 64 * 2**20


@dataclass(frozen=True, slots=True)
class Package:
    """A package folder that is whole: every file there, of the size that its manifest states."""

    path: Path
    manifest: Manifest


def read_manifest(folder: Path) -> Manifest:
    """Read ``zoo.json`` of a folder.

    Raises:
        ZooError: there is none, or it is none; the message says what is wrong.
    """
    path = folder / MANIFEST
    where = f"{folder.name}/{MANIFEST}"
    try:
        if path.stat().st_size > MAX_MANIFEST:
            raise ZooError(f"{where}: larger than {MAX_MANIFEST} bytes, which no manifest is")
        raw = path.read_bytes()
    except FileNotFoundError:
        raise ZooError(f"{folder}: no package, it holds no {MANIFEST}") from None
    except OSError as error:
        raise ZooError(f"{where}: {error.strerror or error}") from None
    try:
        manifest = parse_manifest(raw)
    except HashMismatch as error:
        raise ZooError(f"{where}: {error}; it was edited, build it again") from None
    except ValidationError as error:
        first = error.errors()[0]
        at = ".".join(str(step) for step in first["loc"])
        raise ZooError(f"{where}: {f'{at}: ' if at else ''}{str(first['msg']).splitlines()[0][:200]}") from None
    except (ValueError, RecursionError) as error:
        raise ZooError(f"{where}: not JSON: {str(error).splitlines()[0][:200]}") from None
    for name in manifest.files:
        pure = PurePosixPath(name)
        if (
            pure.is_absolute()
            or ".." in pure.parts
            or "\\" in name
            or "\0" in name
            or not pure.parts
            or name == MANIFEST
        ):
            raise ZooError(f"{where}: {name[:200]!r} is no name of a file inside the package")
    return manifest


def open_package(path: Path, *, hashes: bool = False) -> Package:
    """Open a package folder and check that it is whole.

    Args:
        path: the folder.
        hashes: read every file and compare its SHA-256 too.

    Raises:
        ZooError: a file is missing, changed, or keeps its weights outside the folder.
    """
    if not path.is_dir():
        raise ZooError(f"{path}: {'not a folder' if path.exists() else 'no such package'}")
    manifest = read_manifest(path)
    for name, record in manifest.files.items():
        file = path / name
        try:
            if not file.resolve().is_relative_to(path.resolve()):
                raise ZooError(f"{path.name}/{name}: a link that leaves the package; build it again")
            size = file.stat().st_size
        except FileNotFoundError:
            raise ZooError(f"{path.name}/{name}: missing; build the package again") from None
        except (OSError, RuntimeError) as error:
            raise ZooError(f"{path.name}/{name}: {getattr(error, 'strerror', None) or error}") from None
        if size != record.size:
            raise ZooError(f"{path.name}/{name}: {size} bytes, {MANIFEST} says {record.size}; build the package again")
        if file.suffix == ".onnx":
            for external in external_files(file, f"{path.name}/{name}"):
                if external not in manifest.files:
                    raise ZooError(
                        f"{path.name}/{name}: keeps weights in {external[:200]!r}, no file of the package; refused"
                    )
    if hashes:
        check_hashes(path, manifest)
    return Package(path, manifest)


def check_hashes(path: Path, manifest: Manifest) -> None:
    """Read every file of a package and compare its SHA-256.

    Raises:
        ZooError: a file's bytes are not those that were built.
    """
    for name, record in manifest.files.items():
        try:
            with (path / name).open("rb") as file:
                if hasattr(os, "posix_fadvise"):
                    os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_SEQUENTIAL)
                found = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise ZooError(f"{path.name}/{name}: {error.strerror or error}") from None
        if found != record.sha256:
            raise ZooError(f"{path.name}/{name}: its SHA-256 is not the one in {MANIFEST}; build the package again")
