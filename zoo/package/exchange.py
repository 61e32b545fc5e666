"""Two folders that change places in one step, so that at every moment one of them stands there whole."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import sys
from pathlib import Path
from typing import Any

_HERE = -100
"""AT_FDCWD: paths count from the working folder."""
_EXCHANGE = 2
"""RENAME_EXCHANGE of Linux, RENAME_SWAP of macOS: both are 2."""
_UNKNOWN = {errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}


def _load() -> Any:
    """Find what the system offers: renameat2 (rename(2), Linux 3.15 and glibc 2.28) or renamex_np (macOS 10.12)."""
    with contextlib.suppress(OSError, AttributeError, TypeError):
        library = ctypes.CDLL(None, use_errno=True)
        if sys.platform == "darwin":
            swap = library.renamex_np
            swap.argtypes = [ctypes.c_char_p, ctypes.c_char_p, ctypes.c_uint]
            return lambda one, other: swap(one, other, _EXCHANGE)
        rename = library.renameat2
        rename.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint]
        return lambda one, other: rename(_HERE, one, _HERE, other, _EXCHANGE)
    return None


_exchange: Any = _load()


def exchange(one: Path, other: Path) -> bool:
    """Let two paths change places in one step.

    Returns:
        Whether they did; False where the system or the file system cannot.

    Raises:
        OSError: it can, and refuses.
    """
    if _exchange is None:
        return False
    if _exchange(os.fsencode(one), os.fsencode(other)) == 0:
        return True
    number = ctypes.get_errno()
    if number in _UNKNOWN:
        return False
    raise OSError(number, os.strerror(number), str(other))
