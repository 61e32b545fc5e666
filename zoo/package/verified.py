"""The SHA-256 of large files, computed once for a state of the file and remembered in the user's own cache.

A state is told by device, inode, size and the times of the last change of content and of anything (ctime, which no
program can set). A file that was changed so lately that the clock may not tell another change is not remembered.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import stat
import time
from pathlib import Path

from zoo.errors import ZooError
from zoo.home import zoo_home
from zoo.package.files import write_whole
from zoo.trust import is_trusted, make_private
from zoo.units import bytes_text

log = logging.getLogger("zoo")

Stamp = tuple[int, int, int, int, int]
"""Device, inode, size, mtime and ctime in nanoseconds."""
SMALL = 2**20
"""Bytes up to which a file is hashed each time: that takes less than remembering."""
TOLD = 2**31
"""Bytes from which on a line says what takes so long."""
REBUILD = "; build the package again"
"""How messages on what is missing or changed in a package end."""
_TICK = 20_000_000
"""Nanoseconds within which two changes may get the same times."""


def stamp_of(status: os.stat_result) -> Stamp:
    """Tell the state of a file."""
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def open_regular(path: Path, where: str) -> tuple[int, Stamp]:
    """Open a file for reading that is a regular file and not a link.

    Returns:
        The descriptor, which the caller closes, and the file's state.

    Raises:
        ZooError: it is missing, something else, or may not be read.
    """
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    try:
        if stat.S_ISLNK(path.lstat().st_mode):
            raise ZooError(f"{where}: is a link, not a file of the package{REBUILD}")
        descriptor = os.open(path, flags)
    except FileNotFoundError:
        raise ZooError(f"{where}: missing{REBUILD}") from None
    except OSError as error:
        raise ZooError(f"{where}: {error.strerror or error}") from None
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        raise ZooError(f"{where}: is not a regular file{REBUILD}")
    return descriptor, stamp_of(status)


def sha256_of(path: Path, where: str, *, again: bool = False) -> tuple[str, Stamp]:
    """Hash a file, or remember what its hash was in this state.

    Args:
        path: the file.
        where: for messages.
        again: read it even if its hash is remembered.

    Returns:
        The SHA-256, and the state of the file that has it.

    Raises:
        ZooError: it is not a regular file, cannot be read, or changed meanwhile.
    """
    descriptor, stamp = open_regular(path, where)
    with os.fdopen(descriptor, "rb") as file:
        if not again and stamp[2] > SMALL and (known := recall(stamp)) is not None:
            return known, stamp
        if stamp[2] >= TOLD:
            log.warning("%s: %s are checked, once for this state of the file", where, bytes_text(stamp[2]))
        try:
            if hasattr(os, "posix_fadvise"):
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_SEQUENTIAL)
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise ZooError(f"{where}: {error.strerror or error}") from None
        if stamp_of(os.fstat(file.fileno())) != stamp:
            raise ZooError(f"{where}: changed while it was read; try again")
    remember(stamp, digest)
    return digest, stamp


def recall(stamp: Stamp) -> str | None:
    """Look up the SHA-256 of a file in this state."""
    entry = _entry(stamp)
    if not entry.is_file() or not is_trusted(entry.parent) or not is_trusted(entry):
        return None
    try:
        said = json.loads(entry.read_bytes())
        digest = said["sha256"] if said["stamp"] == list(stamp) else None
        return digest if isinstance(digest, str) else None
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def remember(stamp: Stamp, digest: str) -> None:
    """Note the SHA-256 of a file in this state; what cannot be noted is computed again."""
    if stamp[2] <= SMALL:
        return
    age = time.time_ns() - max(stamp[3:])
    if age < _TICK:
        time.sleep(max(0, min(_TICK, _TICK - age)) / 1e9)
    entry = _entry(stamp)
    with contextlib.suppress(OSError):
        make_private(entry.parent)
        if is_trusted(entry.parent):
            write_whole(entry, json.dumps({"stamp": stamp, "sha256": digest}).encode(), replace=True)
            os.chmod(entry, 0o600)


def remember_file(path: Path, digest: str) -> None:
    """Note the SHA-256 of a file that this process wrote itself."""
    with contextlib.suppress(OSError):
        remember(stamp_of(path.lstat()), digest)


def _entry(stamp: Stamp) -> Path:
    """Name the note of a file: one for each inode, so that notes do not pile up."""
    name = hashlib.sha256(f"{stamp[0]}:{stamp[1]}".encode()).hexdigest()[:32]
    return zoo_home() / "verified" / f"{name}.json"
