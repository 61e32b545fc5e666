"""Git LFS pointers: small texts that stand where a file would be, in a clone made without git-lfs.

Source: https://github.com/git-lfs/git-lfs/blob/main/docs/spec.md, "The Pointer".
"""

from __future__ import annotations

from zoo.errors import ZooError

_BEGINNING = b"version https://git-lfs"


def refuse_pointer(beginning: bytes, where: str) -> None:
    """Refuse a pointer in place of a file.

    Args:
        beginning: the first bytes of the file, at least 23 where there are so many.
        where: the file, for the message.

    Raises:
        ZooError: it is one.
    """
    if beginning.startswith(_BEGINNING):
        raise ZooError(f"{where}: a Git LFS pointer, not the file itself; run `git lfs pull`, or fetch it again")
