"""What was read of weights is remembered under ``$ZOO_HOME/digests``: by what the system says of a file, never by path.

An entry is trusted no further than its key: device, inode, size, modification and change time. Whoever writes to a file
changes its change time, which no program can put back.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path

from zoo.home import zoo_home
from zoo.trust import is_trusted, make_private

_DIGEST = re.compile(r"[0-9a-f]{64}")
_MAX_ENTRY = 64 * 2**20


def recall(kind: str, key: str) -> dict[str, str]:
    """Return the digests that are remembered; empty where there are none, or where another user may have written them.

    Args:
        kind: ``files``, digests of the tensors of a file; ``weights``, of the first weights of a sampled digest.
        key: 64 hexadecimal digits.
    """
    try:
        path = _path(kind, key)
        if path.stat().st_size > _MAX_ENTRY or not (is_trusted(path.parent) and is_trusted(path)):
            return {}
        entry = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    sound = isinstance(entry, dict) and all(
        isinstance(digest, str) and _DIGEST.fullmatch(digest) for digest in entry.values()
    )
    return entry if sound else {}


def keep(kind: str, key: str, digests: Mapping[str, str], *, replace: bool = True) -> None:
    """Remember digests; where that cannot be written, they are read anew another time.

    Args:
        replace: put it in the place of what is there.
    """
    path = _path(kind, key)
    with contextlib.suppress(OSError):
        make_private(path.parent)
        descriptor, part = tempfile.mkstemp(prefix=".", suffix=".part", dir=path.parent)
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                json.dump(dict(digests), file)
            if replace:
                os.replace(part, path)
            else:
                with contextlib.suppress(FileExistsError):
                    os.link(part, path)
        finally:
            with contextlib.suppress(OSError):
                os.unlink(part)


def _path(kind: str, key: str) -> Path:
    return zoo_home() / "digests" / kind / key[:2] / f"{key}.json"
