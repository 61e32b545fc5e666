"""The one lock of an output: who writes it, and nobody else meanwhile."""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

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
    from filelock import FileLock, Timeout

    with guarded(output.parent):
        output.parent.mkdir(parents=True, exist_ok=True)
    path = lock_file(output)
    lock = FileLock(path, timeout=0, is_singleton=False, thread_local=False)
    for _ in range(100):
        with guarded(path):
            _refuse_foreign(path)
            try:
                lock.acquire()
            except Timeout:
                if not path.exists():
                    raise ZooError(f"{path.parent}: takes no files; choose another -o") from None
                raise ZooError(f"{output}: another build is writing it{_holder(path)}; wait, or choose -o") from None
        # Whoever held it before may have removed the file between our opening and locking it: then ours guards nothing.
        if _same_file(lock, path):
            break
        lock.release(force=True)
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
        with contextlib.suppress(OSError):
            lock.release(force=True)


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


def _same_file(lock: Any, path: Path) -> bool:
    descriptor = getattr(getattr(lock, "_context", None), "lock_file_fd", None)
    if not isinstance(descriptor, int):
        return True
    try:
        return os.path.samestat(os.fstat(descriptor), path.lstat())
    except OSError:
        return False


def _holder(path: Path) -> str:
    with contextlib.suppress(OSError, ValueError):
        return f" (process {int(path.read_bytes().removeprefix(b'zoo '))})"
    return ""
