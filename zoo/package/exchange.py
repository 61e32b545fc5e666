"""Renames that leave nothing behind: two folders change places in one step, or a name is given that nothing has."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import sys
from collections.abc import Callable
from pathlib import Path

_HERE = -100
"""AT_FDCWD: paths count from the working folder."""
_EXCHANGE = 2
"""RENAME_EXCHANGE of Linux, RENAME_SWAP of macOS: both are 2."""
_EXCLUSIVE = 4 if sys.platform == "darwin" else 1
"""RENAME_EXCL of macOS, RENAME_NOREPLACE of Linux."""
_UNKNOWN = {errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}


def _load() -> Callable[[bytes, bytes, int], int] | None:
    """Find what the system offers: renameat2 (rename(2), Linux 3.15 and glibc 2.28) or renamex_np (macOS 10.12)."""
    with contextlib.suppress(OSError, AttributeError, TypeError):
        library = ctypes.CDLL(None, use_errno=True)
        if sys.platform == "darwin":
            swap = library.renamex_np
            swap.argtypes = [ctypes.c_char_p, ctypes.c_char_p, ctypes.c_uint]
            return lambda source, target, flag: int(swap(source, target, flag))
        rename = library.renameat2
        rename.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint]
        return lambda source, target, flag: int(rename(_HERE, source, _HERE, target, flag))
    return None


_rename: Callable[[bytes, bytes, int], int] | None = _load()


def exchange(source: Path, target: Path) -> bool:
    """Let two paths change places in one step.

    Returns:
        Whether they did; False where the system or the file system cannot.

    Raises:
        OSError: it can, and refuses.
    """
    return _flagged(source, target, _EXCHANGE)


def rename_new(source: Path, target: Path) -> None:
    """Give a file or folder a name that nothing has, on the same file system.

    Raises:
        FileExistsError: something has it.
        OSError: whatever else the system says.
    """
    if _flagged(source, target, _EXCLUSIVE):
        return
    if os.path.lexists(target):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target))
    os.rename(source, target)


def _flagged(source: Path, target: Path, flag: int) -> bool:
    """Rename with a flag; False where the system or the file system does not know it."""
    if _rename is None:
        return False
    if _rename(os.fsencode(source), os.fsencode(target), flag) == 0:
        return True
    number = ctypes.get_errno()
    if number in _UNKNOWN:
        return False
    raise OSError(number, os.strerror(number), str(target))
