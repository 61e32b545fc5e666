"""Measure this disk: what writing and reading as many bytes as a build does takes at the least."""

import os
import time
from pathlib import Path

BLOCK = 16 << 20


def drop(folder: Path) -> None:
    """Let the kernel forget the cached pages of every file under `folder`, where it can be told to."""
    if not hasattr(os, "posix_fadvise"):
        return
    for path in folder.rglob("*"):
        if path.is_file():
            with open(path, "rb") as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def write_seconds(path: Path, size: int) -> float:
    """Write `size` bytes of noise from memory in blocks of 16 MB, fsync, delete the file; return the seconds."""
    noise = memoryview(os.urandom(BLOCK))
    start = time.perf_counter()
    try:
        with open(path, "wb", buffering=0) as file:
            for at in range(0, size, BLOCK):
                file.write(noise[: min(BLOCK, size - at)])
            os.fsync(file.fileno())
        return time.perf_counter() - start
    finally:
        path.unlink(missing_ok=True)


def read_seconds(folder: Path, pattern: str = "*.safetensors") -> float:
    """Read each matching file once in blocks of 16 MB, its cached pages dropped before; return the seconds."""
    drop(folder)
    block = bytearray(BLOCK)
    start = time.perf_counter()
    for path in sorted(folder.glob(pattern)):
        with open(path, "rb", buffering=0) as file:
            while file.readinto(block):
                pass
    return time.perf_counter() - start
