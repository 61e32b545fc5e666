"""A server of packages as a process of its own: started, watched, stopped."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil


class Server:
    """`zoo serve`, on a free port of the loopback interface."""

    def __init__(self, packages: list[Path], log: Path, *options: object, nice: int = 0) -> None:
        command = [sys.executable, "-m", "zoo", "serve", *map(str, packages), "--port", "0", *map(str, options)]
        command = ["nice", "-n", str(nice), *command] if nice else command
        self.log = log
        with log.open("wb") as stream:
            self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stream)
        assert self.process.stdout is not None
        self.url = self.process.stdout.readline().decode().strip()
        if not self.url:
            raise SystemExit(f"the server did not start: {log.read_text().strip()}")
        self._watched = psutil.Process(self.process.pid)

    def rss(self) -> int:
        """Return the resident size, bytes."""
        return int(self._watched.memory_info().rss)

    def counts(self) -> dict[str, int]:
        """Return how many threads and open files it has."""
        return {"threads": self._watched.num_threads(), "files": self._watched.num_fds()}

    def events(self, name: str) -> list[dict[str, Any]]:
        """Return what it logged under a name."""
        found = (json.loads(line) for line in self.log.read_text().splitlines() if line.endswith("}"))
        return [one for one in found if one["event"] == name]

    def stop(self, limit: float = 60.0) -> int:
        """Ask it to end, and return its exit code."""
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(limit)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            return -1

    def kill(self) -> None:
        """End it if it still runs."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


def metrics(text: str) -> dict[str, float]:
    """Sum a page of metrics by name, over all labels."""
    found: dict[str, float] = {}
    for line in text.splitlines():
        if line and not line.startswith("#"):
            name, _, value = line.rpartition(" ")
            name = name.partition("{")[0]
            found[name] = found.get(name, 0.0) + float(value)
    return found


def scrape(url: str) -> dict[str, float]:
    """Read a server's metrics."""
    import httpx2

    return metrics(httpx2.get(f"{url}/metrics", timeout=30).text)


def wait_idle(url: str, limit: float = 60.0) -> dict[str, float]:
    """Wait until no sequence runs or waits; return the metrics then, or what they were at the end of the time."""
    end = time.monotonic() + limit
    while True:
        found = scrape(url)
        if not found["zoo_requests_running"] and not found["zoo_requests_waiting"]:
            return found
        if time.monotonic() > end:
            return found
        time.sleep(0.2)


def build_tiny(folder: Path, precision: str) -> Path:
    """Build the bundled small model."""
    import zoo

    return zoo.build("zoo-tiny", precision, output=folder / f"tiny-{precision}").path


def low_priority(nice: int) -> None:
    """Leave the processors to whoever wants them."""
    if nice:
        os.nice(nice)
