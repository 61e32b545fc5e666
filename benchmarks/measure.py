"""Run a command and measure it: wall time, and peak resident memory summed over its whole process tree."""

import os
import resource
import subprocess
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

INTERVAL = 0.02


@dataclass(frozen=True)
class Measured:
    """What one command did; memory in bytes.

    `peak_rss` is the larger of two figures: the highest sum over the tree seen at one moment (sampled every 20 ms) and
    the highest resident size that the kernel recorded for any one of its processes, which catches what falls between
    samples.  `peak_anonymous` counts pages that no file backs: mapped checkpoints are in the first and not in this.
    `cpu` is the processor seconds that the tree took, `others` the share of the machine's processor time, from 0 to 1,
    that went to anything else.
    """

    code: int
    wall: float
    peak_rss: int
    peak_anonymous: int
    cpu: float
    others: float
    stdout: str
    stderr: str


def descendants(pid: int) -> list[int]:
    """Return `pid` and every process below it; Linux lists children cheaply, psutil looks at all processes."""
    try:
        found = [pid]
        for parent in found:
            for task in os.listdir(f"/proc/{parent}/task"):
                found += map(int, Path(f"/proc/{parent}/task/{task}/children").read_text().split())
        return found
    except OSError:
        try:
            return [pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))]
        except psutil.Error:
            return []


def resident(pid: int) -> tuple[int, int, int]:
    """Return a process's resident bytes, its anonymous ones, and its own recorded peak; zeros once it is gone."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        fields = dict(line.split(":", 1) for line in lines if ":" in line)
        now, anonymous, peak = (int(fields.get(key, "0").split()[0]) << 10 for key in ("VmRSS", "RssAnon", "VmHWM"))
        return now, anonymous, peak
    except (OSError, ValueError):
        pass
    try:
        size = psutil.Process(pid).memory_info().rss
        return size, size, size
    except psutil.Error:
        return 0, 0, 0


class Sampler(threading.Thread):
    """Watch a process tree until told to stop."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.pid = pid
        self.done = threading.Event()
        self.sum = self.single = self.anonymous = 0

    def sample(self) -> None:
        """Take one look."""
        sizes = [resident(pid) for pid in descendants(self.pid)]
        self.sum = max(self.sum, sum(size for size, _, _ in sizes))
        self.anonymous = max(self.anonymous, sum(size for _, size, _ in sizes))
        self.single = max([self.single, *(peak for _, _, peak in sizes)])

    def run(self) -> None:
        """Look again and again."""
        while not self.done.wait(INTERVAL):
            self.sample()


def busy_seconds() -> float:
    """Return the processor seconds that the machine has been busy since it started, stolen ones included."""
    times = psutil.cpu_times()
    return float(sum(times) - times.idle - getattr(times, "iowait", 0.0) - getattr(times, "guest", 0.0)
                 - getattr(times, "guest_nice", 0.0))  # fmt: skip


def own_seconds() -> float:
    """Return the processor seconds of this process and of every child that has ended."""
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def measure(command: list[str], env: dict[str, str] | None = None, cwd: Path | None = None) -> Measured:
    """Run `command` to its end and measure it; a failing command is measured too, its code says so."""
    busy, own = busy_seconds(), own_seconds()
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env, cwd=cwd)
    sampler = Sampler(process.pid)
    sampler.start()
    stdout, stderr = process.communicate()
    wall = time.perf_counter() - start
    sampler.done.set()
    sampler.join()
    own = own_seconds() - own
    foreign = busy_seconds() - busy - own
    others = max(0.0, foreign) / (wall * (psutil.cpu_count() or 1))
    peak = max(sampler.sum, sampler.single)
    return Measured(process.returncode, wall, peak, sampler.anonymous, own, others, stdout, stderr)


def folder_bytes(folder: Path, without: tuple[str, ...] = ()) -> int:
    """Return the bytes of the files under `folder`, leaving out the named folders directly in it."""
    if not folder.is_dir():
        return folder.stat().st_size
    return sum(
        path.stat().st_size
        for path in folder.rglob("*")
        if path.is_file() and path.relative_to(folder).parts[0] not in without
    )


def read_through(folder: Path) -> int:
    """Read every file under `folder` once, which puts it in the page cache as far as it fits; return the bytes."""
    total = 0
    block = bytearray(16 << 20)
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            with open(path, "rb", buffering=0) as file:
                while count := file.readinto(block):
                    total += count
    return total
