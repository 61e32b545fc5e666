"""Files written whole or not at all, and the system's errors about them in one line."""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from zoo.errors import ZooError

_NO_LINKS = {errno.EPERM, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL, errno.EMLINK, errno.EXDEV}
"""What file systems answer that have no hard links: FAT, exFAT, many network and FUSE mounts."""


@contextlib.contextmanager
def guarded(path: Path) -> Iterator[None]:
    """Turn what the system refuses into one line that names the path."""
    try:
        yield
    except OSError as error:
        where = error.filename or path
        if error.errno == errno.ENOSPC or error.errno == getattr(errno, "EDQUOT", -1):
            raise ZooError(
                f"{where}: no space left; free some, finished work is kept and the same command continues"
            ) from None
        if error.errno == errno.EFBIG:
            raise ZooError(f"{where}: larger than this system lets a file be (see `ulimit -f`)") from None
        raise ZooError(f"{where}: {error.strerror or error}") from None


def write_file(folder: Path, name: str, content: bytes) -> None:
    """Write a small file into a folder of ours and wait until it is on the disk."""
    path = folder / name
    with guarded(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())


def write_whole(path: Path, content: bytes, *, replace: bool) -> None:
    """Write a file beside its place and give it its name in one step.

    Args:
        path: where it goes; its folder must be there.
        content: all of it.
        replace: take the place of a file that is there.

    Raises:
        FileExistsError: there is one, and ``replace`` is not set.
        OSError: it cannot be written.
    """
    descriptor, part = tempfile.mkstemp(prefix=f".{path.name[:100]}.", suffix=".zoo-part", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(part, 0o666 & ~_umask())
        if replace:
            os.replace(part, path)
        else:
            _name_new(part, path)
    finally:
        with contextlib.suppress(OSError):
            os.unlink(part)


def _name_new(part: str, path: Path) -> None:
    """Give a file a name that nothing has: by a hard link, or by taking the name first and replacing it then."""
    try:
        os.link(part, path)
        return
    except FileExistsError:
        raise
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    os.replace(part, path)


def _umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


def sync_folder(folder: Path) -> None:
    """Wait until a folder's entries are on the disk, where the system can."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EBADF):
            raise
    finally:
        os.close(descriptor)
