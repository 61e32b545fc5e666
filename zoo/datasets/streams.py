"""Files as streams of bytes: plain, gzip, or the members of a zip, with limits on what an archive may hold.

Nothing is unpacked to the disk: a member is read as a stream, so no path in an archive leads anywhere. Archives that
try are refused all the same.
"""

from __future__ import annotations

import gzip
import io
import stat
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from zoo.errors import ZooError

MAX_MEMBER = 4 * 2**30
"""Bytes that one member of an archive may unpack to."""
MAX_ARCHIVE = 16 * 2**30
"""Bytes that a whole archive may unpack to."""
MAX_MEMBERS = 200_000
BOMB_RATIO = 200
"""A member that grows by more than this, past ``BOMB_FREE`` bytes, is not text."""
BOMB_FREE = 16 * 2**20


@dataclass(frozen=True, slots=True)
class TextStream:
    """An opened file of a dataset."""

    name: str
    """For messages: the file, and the member within an archive."""
    kind: str
    """Its suffix without ``.gz``: ``.jsonl``, ``.json``, ``.csv``, ``.txt`` …"""
    file: IO[bytes]


def open_streams(path: Path) -> Iterator[TextStream]:
    """Open a file, or each member of a zip in the order of names; each is closed when the next is asked for.

    Raises:
        ZooError: the file is absent, empty, damaged, not what its name says, or an archive that must not be unpacked.
    """
    suffix = path.suffix.lower()
    try:
        size = path.stat().st_size
    except OSError as error:
        raise ZooError(f"{path}: {error.strerror}") from None
    if not path.is_file():
        raise ZooError(f"{path}: not a file")
    if size == 0:
        raise ZooError(f"{path}: is empty")
    if suffix == ".zip":
        yield from _members(path)
        return
    name = path.name
    with damage(name), path.open("rb") as raw:
        if suffix == ".gz":
            if raw.read(2) != b"\x1f\x8b":
                raise ZooError(f"{name}: is not gzip, though its name says so")
            raw.seek(0)
            with gzip.GzipFile(fileobj=raw) as opened:
                yield TextStream(name, Path(path.stem).suffix.lower(), io.BufferedReader(_Bounded(opened, raw, name)))
        else:
            yield TextStream(name, suffix, raw)


class _Bounded(io.RawIOBase):
    """What a compressed file unpacks to, as far as it may be a text."""

    def __init__(self, opened: gzip.GzipFile, packed: IO[bytes], name: str) -> None:
        self._opened, self._packed, self._name = opened, packed, name
        self._size = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        raw = self._opened.read(len(buffer))
        buffer[: len(raw)] = raw
        self._size += len(raw)
        packed = max(1, self._packed.tell())
        if self._size > MAX_MEMBER or (self._size > BOMB_FREE and self._size > BOMB_RATIO * packed):
            raise ZooError(
                f"{self._name}: unpacks to {self._size:,} bytes and more from {packed:,}; that is not a dataset"
            )
        return len(raw)


@contextmanager
def damage(name: str) -> Iterator[None]:
    """Turn what the decompressors say into one line that names the file."""
    try:
        yield
    except EOFError:
        raise ZooError(f"{name}: is truncated; fetch it again") from None
    except (gzip.BadGzipFile, zlib.error, zipfile.BadZipFile) as error:
        raise ZooError(f"{name}: is damaged ({error}); fetch it again") from None
    except OSError as error:
        raise ZooError(f"{name}: {error.strerror or error}") from None


def _members(path: Path) -> Iterator[TextStream]:
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        raise ZooError(f"{path.name}: is truncated, or not a zip archive though its name says so") from None
    with archive:
        entries = archive.infolist()
        check_entries(path.name, entries)
        for entry in sorted(entries, key=lambda one: one.filename):
            if entry.is_dir():
                continue
            name = f"{path.name}/{entry.filename}"
            with damage(name):
                try:
                    opened = archive.open(entry)
                except (RuntimeError, NotImplementedError, UnicodeDecodeError) as error:
                    raise ZooError(f"{name}: cannot be unpacked ({error})") from None
                # zipfile hands out no more than the entry states, and checks it.
                with opened:
                    yield TextStream(name, Path(entry.filename).suffix.lower(), opened)


def check_entries(archive: str, entries: list[zipfile.ZipInfo]) -> None:
    """Refuse an archive whose entries lead outside, are links, are locked, or unpack to far more than they should.

    Raises:
        ZooError: naming the entry.
    """
    if len(entries) > MAX_MEMBERS:
        raise ZooError(f"{archive}: holds {len(entries)} entries, more than {MAX_MEMBERS}")
    total = 0
    for entry in entries:
        name = entry.orig_filename
        if not name:
            raise ZooError(f"{archive}: an entry has no name; the archive is damaged")
        parts = name.replace("\\", "/").split("/")
        if name.startswith(("/", "\\")) or ".." in parts or ":" in parts[0] or "\0" in name:
            raise ZooError(f"{archive}: entry {name!r} leads outside of the archive; it is not read")
        if stat.S_ISLNK(entry.external_attr >> 16):
            raise ZooError(f"{archive}: entry {name!r} is a link; it is not read")
        if entry.flag_bits & 1:
            raise ZooError(f"{archive}: entry {name!r} is encrypted")
        total += entry.file_size
        grown = entry.file_size > BOMB_FREE and entry.file_size > BOMB_RATIO * max(1, entry.compress_size)
        if entry.file_size > MAX_MEMBER or total > MAX_ARCHIVE or grown:
            raise ZooError(
                f"{archive}: entry {name!r} would unpack to {entry.file_size:,} bytes from {entry.compress_size:,}, "
                f"{total:,} in all; that is not a dataset"
            )
