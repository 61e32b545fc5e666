"""Weights in huge pages, from which a step reads them faster.

A step of generation reads every weight once. In pages of 4 KiB the processor translates 256 addresses for a MiB and
fetches ahead no farther than a page; in pages of 2 MiB it translates one for two. Linux leaves memory in small pages
unless a program asks ("madvise", the default of most distributions), and onnxruntime does not ask.

Measured on two cores of a Zen 4, Linux 6.18, one token after 128: SmolLM2-135M int8 10.9 to 8.1 ms a step, a 1.1B Llama
int8 50 to 38 ms and int4 39 to 28 ms; between nothing and 15 % where small pages happened to be neighbours, which that
processor translates together. Weights that our own kernels read (``zoo.engine.kernels``) are copied from the mapped
file; what onnxruntime rearranged is moved where it is.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from zoo.engine.kernels import move_weights
from zoo.engine.machine import free_memory
from zoo.engine.smaps import mappings, read_smaps

COLLAPSE = 25
"""``MADV_COLLAPSE`` of Linux 6.1 (include/uapi/asm-generic/mman-common.h): copy memory into huge pages now."""
HUGE = 2**21
AT_ONCE = 32 * HUGE
"""Bytes of a call: each makes the kernel gather what other cores have under way, and other threads wait for parts."""
FULL = 0.95
"""Share of a region that is resident, from which on it is moved."""
SMALLEST = 2**25
"""Bytes of weights below which caches hold them, and their addresses."""
SPARE = 2**28
"""Bytes of memory that are left free."""


class Opened(Protocol):
    """A session over a package's graph."""

    @property
    def kernels(self) -> int:
        """Its number among the sessions that use our own kernels; 0 where it does not."""


def use_huge_pages(session: Opened, weights_bytes: int, data: Path) -> None:
    """Begin to move a session's weights into huge pages, in the background: it takes a second a GB.

    The session stays open until they are moved.

    Args:
        session: that was opened.
        weights_bytes: of its package; a small one gains nothing, and one that is larger than the memory that is free
            stays mapped from its file.
        data: that file.
    """
    if SMALLEST <= weights_bytes < free_memory():
        threading.Thread(target=move, args=(session, data), name="zoo-huge-pages", daemon=True).start()


def move(session: Opened, data: Path) -> None:
    """Move a session's weights into huge pages, and what else the process holds; see ``use_huge_pages``."""
    move_weights(session.kernels, data, lambda: free_memory() > SPARE)
    collapse()


def collapse() -> int:
    """Move anonymous memory into huge pages; contents and addresses stay.

    A region that is unmapped meanwhile, and a kernel that does not know the call, are passed over.

    Returns:
        Bytes of the calls that succeeded.
    """
    try:
        madvise = ctypes.CDLL(None).madvise
        regions = list(anonymous(read_smaps()))
    except (OSError, AttributeError, TypeError):  # another system
        return 0
    moved = 0
    for start, stop in regions:
        last = stop // HUGE * HUGE
        for at in range(-(-start // HUGE) * HUGE, last, AT_ONCE):
            end = min(at + AT_ONCE, last)
            if not madvise(ctypes.c_void_p(at), ctypes.c_size_t(end - at), COLLAPSE):
                moved += end - at
                continue
            # Where free memory is in pieces the kernel gives up at the first page that it has no room for.
            for page in range(at, end, HUGE):
                moved += HUGE * (not madvise(ctypes.c_void_p(page), ctypes.c_size_t(HUGE), COLLAPSE))
    return moved


def anonymous(maps: str) -> Iterator[tuple[int, int]]:
    """Find writable private memory without a file that is full, (start, stop), in ``/proc/self/smaps`` (proc(5)).

    Where little of a region is there, a stack or a cache that waits, huge pages would fill it.
    """
    for mapping in mappings(maps):
        size = mapping.stop - mapping.start
        if mapping.permissions != "rw-p" or mapping.inode != "0" or mapping.path not in ("", "[heap]"):
            continue
        if 1024 * mapping.sizes.get("Rss", 0) > FULL * size > 0:
            yield mapping.start, mapping.stop
