"""What a computation may count on: cores and memory, with affinity and control groups respected."""

from __future__ import annotations

import contextlib
import math
import os
from pathlib import Path


def usable_cores() -> int:
    """Count the physical cores that this process may use, at least one.

    Two threads on one core share the units that a matrix product is limited by, so siblings count once.
    """
    try:
        allowed = os.sched_getaffinity(0)
    except AttributeError:  # not on this platform
        return _physical() or os.cpu_count() or 1
    cores = len({_siblings(cpu) for cpu in allowed})
    limit = _cgroup_limit()
    return max(1, min(cores, limit) if limit else cores)


def _siblings(cpu: int) -> str:
    """The hardware threads of a CPU's core, as the kernel lists them; the CPU alone where it does not."""
    try:
        return Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list").read_text().strip()
    except OSError:
        return str(cpu)


def _cgroup_limit(root: Path = Path("/sys/fs/cgroup")) -> int | None:
    """The CPU quota of this process's control group, in whole cores; None where there is none.

    Source: the kernel's Documentation/admin-guide/cgroup-v2.rst (``cpu.max``) and scheduler/sched-bwc.rst.
    """
    limits = [quota for folder in _control_groups(root) if (quota := _quota(folder)) is not None]
    return max(1, math.floor(min(limits))) if limits else None


def _control_groups(root: Path, controller: str = "") -> list[Path]:
    """The folders of this process's control group and of those above it; of one controller where each has its own."""
    try:
        group = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return []
    paths = {kinds: path for _, kinds, path in (line.split(":", 2) for line in group if line.count(":") >= 2)}
    own = next((path for kinds, path in paths.items() if controller in kinds.split(",")), "/")
    folder = root / own.strip("/")
    return [one for one in (folder, *folder.parents) if one == root or root in one.parents]


def _quota(folder: Path) -> float | None:
    try:
        quota, period = (folder / "cpu.max").read_text().split()
    except (OSError, ValueError):
        try:
            quota = (folder / "cpu" / "cpu.cfs_quota_us").read_text().strip()
            period = (folder / "cpu" / "cpu.cfs_period_us").read_text().strip()
        except OSError:
            return None
    try:
        cores = int(quota) / int(period)
    except (ValueError, ZeroDivisionError):
        return None
    return cores if cores > 0 else None


def _physical() -> int | None:
    import psutil

    count = psutil.cpu_count(logical=False)
    return int(count) if count else None


def memory_limit() -> tuple[int, int]:
    """Read this machine's memory, or what control groups leave of it: (total, available), bytes."""
    import psutil

    machine = psutil.virtual_memory()
    total, available = int(machine.total), int(machine.available)
    for limit, left in _memory_limits():
        total, available = min(total, limit), min(available, max(0, left))
    return total, available


def give_back_memory() -> None:
    """Give the system back what glibc keeps of freed memory; opening a package frees much at once.

    Measured: 105 of 530 MB after float16 weights were widened.
    """
    import ctypes

    with contextlib.suppress(OSError, AttributeError, TypeError):  # another C library
        ctypes.CDLL(None).malloc_trim(0)


def free_memory() -> int:
    """Bytes that this process may still take."""
    return memory_limit()[1]


def _memory_limits(root: Path = Path("/sys/fs/cgroup")) -> list[tuple[int, int]]:
    """The memory limits of this process's control group and of those above, and what is left of each, in bytes.

    Source: the kernel's Documentation/admin-guide/cgroup-v2.rst (``memory.max``, ``memory.current``, ``memory.stat``)
    and cgroup-v1/memory.rst (``memory.limit_in_bytes``, ``memory.usage_in_bytes``).
    """
    found = []
    second = [(folder, "memory.max", "memory.current", "") for folder in _control_groups(root)]
    first = root / "memory"
    old = [
        (folder, "memory.limit_in_bytes", "memory.usage_in_bytes", "total_")
        for folder in _control_groups(first, controller="memory")
    ]
    for folder, limits, current, prefix in [*second, *old]:
        try:
            limit = (folder / limits).read_text().strip()
            used = int((folder / current).read_text())
            stat = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
            if limit != "max":
                # Pages of files are given back when memory is asked for.
                files = sum(int(stat.get(f"{prefix}{kind}_file", 0)) for kind in ("inactive", "active"))
                found.append((int(limit), int(limit) - used + files))
        except (OSError, ValueError):
            continue
    return found
