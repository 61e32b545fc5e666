"""Caches that only this user can have filled."""

from __future__ import annotations

import logging
import os
import stat
from functools import cache
from pathlib import Path

log = logging.getLogger("zoo")


def make_private(folder: Path) -> None:
    """Make a folder that only this user may enter, and its parents as the system makes them.

    Raises:
        OSError: it cannot be made.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.mkdir(mode=0o700, exist_ok=True)


def is_trusted(path: Path) -> bool:
    """Tell whether a file or folder of a cache is this user's and nobody else may write to it.

    What is there and is not trusted is said in a line, once, and what it holds is to be ignored. Nothing there is not
    trusted either, and no line is said.
    """
    try:
        status = path.lstat()
    except OSError:
        return False
    if stat.S_ISLNK(status.st_mode):
        return _ignored(path, "is a link")
    if hasattr(os, "geteuid") and status.st_uid != os.geteuid():
        return _ignored(path, "belongs to another user")
    if os.name != "nt" and status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return _ignored(path, "may be written by others (chmod go-w makes it yours alone)")
    return True


@cache
def _ignored(path: Path, why: str) -> bool:
    log.warning("%s: %s, so what it holds is not used", path, why)
    return False
