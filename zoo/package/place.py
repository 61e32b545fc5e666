"""Where an output is made: beside it, or inside it where nothing can be put beside it or take its place."""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path

_MOUNTS = Path("/proc/self/mountinfo")
_OCTAL = re.compile(rb"\\([0-7]{3})")


def workplace(output: Path) -> Path:
    """Choose the folder that an output is made in: the output's parent, so that one rename finishes it.

    A mount point (``docker run -v DIR:/out``) cannot be renamed over, and its parent may lie on another disk or be
    read-only; a folder of which the parent takes no files has the same trouble. Such an output is made inside itself.
    """
    if output.is_dir() and not output.is_symlink() and (is_mount(output) or not os.access(output.parent, os.W_OK)):
        return output
    return output.parent


def is_mount(folder: Path) -> bool:
    """Tell whether something is mounted at a folder.

    A bind mount within one file system looks like any folder by its numbers; on Linux the list of mounts has it.
    """
    if os.path.ismount(folder):
        return True
    place = os.fsencode(os.path.realpath(folder))
    with contextlib.suppress(OSError):
        for line in _MOUNTS.read_bytes().splitlines():
            columns = line.split(b" ")
            if len(columns) > 4 and _OCTAL.sub(lambda code: bytes([int(code[1], 8)]), columns[4]) == place:
                return True
    return False
