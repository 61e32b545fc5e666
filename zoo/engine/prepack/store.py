"""Which prepared weights there are: their names, their bound, and how they go."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import shutil
import time
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.errors import UsageError, ZooError
from zoo.home import zoo_home
from zoo.trust import is_trusted

if TYPE_CHECKING:
    from zoo.package.folder import Package

GRAPH, DATA, MARKER, PART = "model.onnx", "model.onnx.data", "prepacked.json", ".part"
LIMIT = "ZOO_PREPACKED_BYTES"
"""Environment: bytes that all prepared weights may take; 0 for none."""
SHARE = 0.25
"""Share of the disk's free bytes that they may take otherwise."""
STALE = 24 * 3600
"""Seconds after which what a killed process left half-made is removed."""


def folder() -> Path:
    """Find the folder of all prepared weights."""
    return zoo_home() / "prepacked"


def entry(package: Package) -> Path:
    """Find where the prepared weights of a package belong on this machine.

    The name stands for the bytes they are made from: a ``Package`` is only made of files whose hashes were compared.
    """
    import onnxruntime as ort

    files = package.manifest.files
    said = json.dumps(
        {
            "package": {name: record.sha256 for name, record in files.items() if name.endswith((".onnx", ".data"))},
            "onnxruntime": ort.__version__,
            "cpu": _cpu(),
        },
        sort_keys=True,
    )
    return folder() / f"{package.manifest.recipe_hash[:16]}-{hashlib.sha256(said.encode()).hexdigest()[:16]}"


def find(package: Package) -> Path | None:
    """Find the graph over prepared weights, if they are there and whole."""
    at = entry(package)
    if not is_trusted(at.parent) or not is_trusted(at):
        return None
    try:
        sizes = json.loads((at / MARKER).read_bytes())
        if not all((at / name).stat().st_size == sizes[name] for name in (GRAPH, DATA)):
            return None
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return at / GRAPH


def require_own(at: Path) -> None:
    """Refuse to make an entry where something of another user's stands, or where others may write.

    Raises:
        ZooError: naming what stands there.
    """
    for path in (at.parent, at):
        if os.path.lexists(path) and not is_trusted(path):
            raise ZooError(f"{path}: is not this user's alone, so no weights are prepared there; remove it")


def clear(recipe_hash: str) -> int:
    """Remove the prepared weights of a recipe; return the bytes that this frees."""
    freed = 0
    for one in _entries():
        if one.name.startswith(f"{recipe_hash[:16]}-"):
            freed += drop(one)
    return freed


def drop(at: Path) -> int:
    """Remove one entry; return its bytes."""
    size = size_of(at)
    shutil.rmtree(at, ignore_errors=True)
    return size


def limit() -> int:
    """Bytes that all prepared weights may take.

    Raises:
        UsageError: the environment says no number.
    """
    text = os.environ.get(LIMIT)
    if text is not None:
        try:
            return max(0, int(text))
        except ValueError:
            raise UsageError(f"{LIMIT} is a number of bytes, not {text[:40]!r}") from None
    home = zoo_home()
    while not home.exists() and home != home.parent:
        home = home.parent
    try:
        free = shutil.disk_usage(home).free
    except OSError:
        return 0
    return int((free + sum(map(size_of, _entries()))) * SHARE)


def make_room(needed: int, most: int) -> None:
    """Remove what was used longest ago until ``needed`` more bytes are within the bound, and what nobody finished."""
    now = time.time()
    whole = []
    for one in _entries():
        if one.name.endswith(PART):
            if now - one.stat().st_mtime > STALE:
                drop(one)
        else:
            whole.append((_used(one), size_of(one), one))
    total = sum(size for _, size, _ in whole)
    for _, size, one in sorted(whole):
        if total + needed <= most:
            break
        drop(one)
        total -= size


def size_of(at: Path) -> int:
    """Bytes of an entry's files."""
    total = 0
    with contextlib.suppress(OSError):
        for one in at.iterdir():
            total += one.stat().st_size
    return total


def _entries() -> list[Path]:
    at = folder()
    return [one for one in at.iterdir() if one.is_dir()] if at.is_dir() else []


def _used(at: Path) -> float:
    """Say when an entry was last used: made, or its marker read; the system notes that at least once a day."""
    try:
        status = (at / MARKER).stat()
        return max(status.st_mtime, status.st_atime)
    except OSError:
        return 0.0


@cache
def _cpu() -> str:
    """What decides how kernels want weights: the processor's model and its instruction sets."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").split("\n\n", 1)[0].splitlines()
    except OSError:
        return f"{platform.machine()} {platform.processor()}"
    keys = ("vendor_id", "cpu family", "model", "flags", "CPU implementer", "CPU part", "Features")
    told = dict(line.partition(":")[::2] for line in lines)
    known = {key.strip(): value.strip() for key, value in told.items()}
    return " ".join([platform.machine(), *(known[key] for key in keys if key in known)])
