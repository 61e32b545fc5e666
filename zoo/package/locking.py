"""The one lock of an output: who writes it, and nobody else meanwhile."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

from zoo.errors import ZooError
from zoo.package.files import guarded
from zoo.package.place import workplace

_CONTENT = re.compile(rb"(zoo [0-9]{1,20}\n)?\Z")
"""What a lock file holds: nothing yet, or the process that holds it."""
_LONGEST = 64


def lock_file(output: Path) -> Path:
    """Name the lock of an output."""
    return workplace(output) / f".{output.name}.zoo-lock"


@contextlib.contextmanager
def locked(output: Path) -> Iterator[None]:
    """Hold the one lock of an output.

    The system drops the lock of a process that dies, whatever kills it, so a file left behind is no obstacle: it is
    stale, and taken over.

    Raises:
        ZooError: another process holds it, named by its id; something that is not a lock has its name; or the folder
            cannot be written.
    """
    with guarded(output.parent):
        output.parent.mkdir(parents=True, exist_ok=True)
    path = lock_file(output)
    for _ in range(100):
        with guarded(path):
            _refuse_foreign(path)
            descriptor = _lock(path)
        if descriptor is None:
            raise ZooError(f"{output}: another build is writing it{_holder(path)}; wait, or choose -o")
        # Whoever held it before may have removed the file between our opening and locking it: then ours guards nothing.
        if _same_file(descriptor, path):
            break
        os.close(descriptor)
    else:
        raise ZooError(f"{path}: cannot be locked; its folder is changed all the time")
    try:
        with contextlib.suppress(OSError):
            path.write_bytes(b"zoo %d\n" % os.getpid())
        yield
    finally:
        # Removed while still held: nobody can lock the name and find it gone.
        with contextlib.suppress(OSError):
            path.unlink()
        os.close(descriptor)


def _refuse_foreign(path: Path) -> None:
    """Refuse to lock, write and remove a file of that name that no zoo made."""
    try:
        status = path.lstat()
    except FileNotFoundError:
        return
    # A second hard link would be another name of a file of the user's, which is about to be written to.
    if stat.S_ISREG(status.st_mode) and status.st_nlink == 1 and status.st_size <= _LONGEST:
        with contextlib.suppress(FileNotFoundError):
            if _CONTENT.match(path.read_bytes()) is None:
                raise ZooError(f"{path}: is there and is not a lock of zoo's; move it away, or choose another -o")
        return
    raise ZooError(f"{path}: is there and is not a lock of zoo's; move it away, or choose another -o")


def _lock(path: Path) -> int | None:
    """Open and lock a file; return its descriptor, or None where another process holds it."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
    except FileNotFoundError:
        raise ZooError(f"{path.parent}: takes no files; choose another -o") from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _same_file(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.lstat())
    except OSError:
        return False


def _holder(path: Path) -> str:
    with contextlib.suppress(OSError, ValueError):
        return f" (process {int(path.read_bytes().removeprefix(b'zoo '))})"
    return ""
