"""Memory moves into huge pages, where the kernel does that, and stays what it is."""

from __future__ import annotations

import ctypes
import mmap
import re
import sys
from pathlib import Path

import pytest

from zoo.engine.huge_pages import COLLAPSE, HUGE, anonymous, collapse

SIZE = 8 * HUGE


def huge_bytes(address: int) -> int:
    """Read how much of the region that begins at an address, or before it, lies in huge pages."""
    for region in re.split(r"\n(?=[0-9a-f]+-[0-9a-f]+ )", Path("/proc/self/smaps").read_text()):
        start, stop = (int(part, 16) for part in region.split(maxsplit=1)[0].split("-"))
        if start <= address < stop:
            return 1024 * int(re.search(r"AnonHugePages:\s+(\d+)", region)[1])
    raise AssertionError("no such region")


@pytest.mark.skipif(sys.platform != "linux", reason="huge pages are asked for on Linux")
def test_memory_moves_into_huge_pages_and_keeps_its_contents():
    memory = mmap.mmap(-1, SIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    memory.madvise(mmap.MADV_NOHUGEPAGE)  # so that it begins in small pages on a system that always uses huge ones
    pattern = bytes(range(256)) * (SIZE // 256)
    memory[:] = pattern
    view = ctypes.c_char.from_buffer(memory)
    address = ctypes.addressof(view)
    assert huge_bytes(address) == 0
    memory.madvise(mmap.MADV_HUGEPAGE)
    aligned = -(-address // HUGE) * HUGE
    if ctypes.CDLL(None).madvise(ctypes.c_void_p(aligned), ctypes.c_size_t(HUGE), COLLAPSE):
        pytest.skip("this kernel moves no memory into huge pages (Linux 6.1 does)")
    assert collapse() >= SIZE - 2 * HUGE
    assert huge_bytes(address) >= SIZE - 2 * HUGE
    assert memory[:] == pattern


def test_regions_of_files_and_guard_pages_are_left_out_and_what_is_nearly_empty():
    regions = (
        ("7f0000000000-7f0000400000 rw-p 00000000 00:00 0 ", 4096),
        ("7f0000400000-7f0000800000 ---p 00000000 00:00 0 ", 0),
        ("7f0000800000-7f0000c00000 rw-p 00000000 fe:00 77                         /models/model data.bin", 4096),
        ("7f0000c00000-7f0001000000 rw-s 00000000 00:01 9                          /dev/zero (deleted)", 4096),
        ("7f0001000000-7f0001400000 rw-p 00000000 00:00 0 ", 2048),
        ("55d000000000-55d000200000 rw-p 00000000 00:00 0                          [heap]", 2048),
        ("7ffc00000000-7ffc00400000 rw-p 00000000 00:00 0                          [stack]", 4096),
    )
    maps = "".join(
        f"{head}\nSize: 4096 kB\nRss:                {resident} kB\nVmFlags: rd wr mr\n" for head, resident in regions
    )
    assert list(anonymous(maps)) == [(0x7F0000000000, 0x7F0000400000), (0x55D000000000, 0x55D000200000)]
