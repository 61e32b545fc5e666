"""A digest of samples: what tells one folder of weights from another in a moment, whatever its size.

Every tensor is sampled at places spread over its length, its ends among them; small ones, and what little lies between
tensors, are taken whole. Weights that were trained on differ everywhere. A single changed byte may lie between two
samples; it is found where it matters, by the digests of whole tensors (``content.py``).
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import islice
from pathlib import Path

from zoo.declarations.dtypes import BY_CODE
from zoo.errors import ZooError
from zoo.sources.safetensors import Header

PLACES = 32
SAMPLE = 4096
"""Bytes of a sample: a page."""
_READERS = 8
"""So many samples are read at once: what costs is the way to the disk, not the bytes."""
_BATCH = 32
"""Samples in memory."""


def sampled_digest(paths: Mapping[str, Path], headers: Mapping[str, Header]) -> str:
    """Digest samples of files of weights.

    Args:
        paths: where each file is, by its name inside the checkpoint.
        headers: what each holds.

    Returns:
        64 hexadecimal digits of BLAKE3.

    Raises:
        ZooError: a file cannot be read, or ends early.
    """
    from blake3 import blake3

    state = blake3()
    for name in sorted(headers):
        header = headers[name]
        try:
            file = os.open(paths[name], os.O_RDONLY | getattr(os, "O_BINARY", 0))
            try:
                if hasattr(os, "posix_fadvise"):
                    os.posix_fadvise(file, 0, 0, os.POSIX_FADV_RANDOM)
                places = _places(header)
                with ThreadPoolExecutor(_READERS) as readers:
                    while batch := list(islice(places, _BATCH)):
                        for piece in readers.map(partial(_read, file), batch):
                            state.update(piece)
            finally:
                os.close(file)
        except OSError as error:
            raise ZooError(f"{name}: {error.strerror or error}") from None
    return state.hexdigest()


def _read(file: int, place: tuple[int, int]) -> bytes:
    return os.pread(file, place[1], place[0])


def _places(header: Header) -> Iterator[tuple[int, int]]:
    """Go through the samples of a file: (offset, size), bytes."""
    at = 0
    for start, stop in sorted(_spans(header)):
        if start > at:
            yield from _within(at, start)
        yield from _within(start, stop)
        at = max(at, stop)
    if header.file_size > at:
        yield from _within(at, header.file_size)


def _within(start: int, stop: int) -> Iterator[tuple[int, int]]:
    if stop - start <= PLACES * SAMPLE:
        if stop > start:
            yield start, stop - start
        return
    for place in range(PLACES - 1):
        at = start + (stop - start - SAMPLE) * place // (PLACES - 1)
        yield max(start, at - at % SAMPLE), SAMPLE
    yield stop - SAMPLE, SAMPLE


def _spans(header: Header) -> Iterator[tuple[int, int]]:
    """Go through the runs of bytes that hold the tensors: (first byte, the one after the last)."""
    for name, info in header.tensors.items():
        start, size = header.offsets[name], info.nbytes
        strides = header.strides.get(name)
        if strides is not None and size:
            last = sum((count - 1) * stride for count, stride in zip(info.shape, strides, strict=True))
            size = (last + 1) * (size // math.prod(info.shape) or BY_CODE[info.dtype].nbytes)
        yield start, start + size
