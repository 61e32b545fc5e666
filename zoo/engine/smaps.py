"""This process's memory, mapping by mapping, as Linux lists it in ``/proc/self/smaps`` (proc(5))."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple


class Mapping(NamedTuple):
    """A range of addresses."""

    start: int
    stop: int
    permissions: str
    inode: str
    path: str
    """Of the file, a name such as ``[heap]``, or empty."""
    sizes: dict[str, int]
    """What is there of it, KiB by kind: ``Rss``, ``Anonymous``, ``Swap`` …"""


def read_smaps() -> str:
    """Read the list.

    Raises:
        OSError: the system has none.
    """
    return Path("/proc/self/smaps").read_text(encoding="utf-8", errors="surrogateescape")


def mappings(text: str) -> Iterator[Mapping]:
    """Take the list apart."""
    mapping: Mapping | None = None
    for line in text.split("\n"):
        first, *fields = line.split(maxsplit=5) or [""]
        if first.endswith(":"):
            if mapping is not None and fields and fields[0].isdecimal():
                mapping.sizes[first[:-1]] = int(fields[0])
        elif "-" in first:
            if mapping is not None:
                yield mapping
            start, stop = (int(part, 16) for part in first.split("-"))
            permissions, _, _, inode, *path = fields
            mapping = Mapping(start, stop, permissions, inode, "".join(path), {})
    if mapping is not None:
        yield mapping
