"""Measure builds and runs in interleaved rounds, each program once a round, the first of a round changing."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from backends import BACKENDS, Site
from backends.base import Load
from measure import folder_bytes, measure, read_through

Figures = dict[str, dict[str, Any]]


def log(text: str) -> None:
    """Print progress to stderr."""
    print(text, file=sys.stderr, flush=True)


def order(names: list[str], rounds: int) -> Iterator[tuple[int, str]]:
    """Yield (round, name), starting each round one name later."""
    for number in range(rounds):
        turn = number % len(names)
        for name in names[turn:] + names[:turn]:
            yield number, name


def environment(site: Site) -> dict[str, str]:
    """Return the environment of a measured program: offline, and with its own scripts first on the path."""
    path = f"{site.python.parent}{os.pathsep}{os.environ.get('PATH', '')}"
    return {**os.environ, "PATH": path, "HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}


def failure(text: str) -> str:
    """Return the last line of what a failed command wrote."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:300] if lines else "no output"


def append(figures: Figures, name: str, row: dict[str, Any]) -> None:
    """Add one round's figures to the lists of `name`."""
    for key, value in row.items():
        into = figures.setdefault(name, {}).setdefault(key, [])
        into.extend(value if isinstance(value, list) else [value])


def build_once(name: str, site: Site, checkpoint: Path, out: Path, precision: str) -> dict[str, Any]:
    """Build a package into a fresh folder with the input in the page cache; raise RuntimeError where it fails.

    `wall_s` ends with the program; `durable_s` adds the time until what it wrote is on the disk, since not every
    program waits for that.
    """
    backend = BACKENDS[name]
    shutil.rmtree(out, ignore_errors=True)
    for made in (out, *(out / folder for folder in backend.work)):
        if name != "zoo":
            made.mkdir(parents=True)
    read_through(checkpoint)
    os.sync()
    wall = cpu = others = 0.0
    rss = anonymous = 0
    for command in backend.build(site, checkpoint, out, precision):
        done = measure(command, environment(site))
        if done.code:
            raise RuntimeError(failure(done.stderr or done.stdout))
        wall += done.wall
        cpu += done.cpu
        rss, anonymous = max(rss, done.peak_rss), max(anonymous, done.peak_anonymous)
        others = max(others, done.others)
    start = time.perf_counter()
    os.sync()
    durable = wall + time.perf_counter() - start
    for folder in backend.work:
        shutil.rmtree(out / folder, ignore_errors=True)
    return {"wall_s": wall, "durable_s": durable, "cpu_s": cpu, "peak_rss_mb": rss / 1e6,
            "peak_anonymous_mb": anonymous / 1e6, "package_mb": folder_bytes(out) / 1e6,
            "others_cpu": others}  # fmt: skip


def run_once(name: str, site: Site, package: Path, load: Load) -> dict[str, Any]:
    """Load a package in a process of its own and generate; raise RuntimeError where it fails."""
    backend = BACKENDS[name]
    done = measure(backend.run(site, package, load), environment(site))
    if done.code:
        raise RuntimeError(failure(done.stderr or done.stdout))
    row = backend.read(done.stdout, done.stderr)
    if not row.get("decode_tok_s"):
        raise RuntimeError("the run printed no figures")
    figures = {key: row[key] for key in ("load_s", "prefill_tok_s", "decode_tok_s") if key in row}
    return figures | {"rss_mb": done.peak_rss / 1e6, "others_cpu": done.others}


def quiet(what: str, name: str, once: Callable[[str], dict[str, Any]], limit: float, retries: int) -> dict[str, Any]:
    """Measure again, at most `retries` times, while other programs took more than `limit` of the processors.

    The quietest row counts.  Programs whose threads wait for each other by spinning lose far more than their share to
    a busy neighbour, so that even the ratios of a disturbed round mean little.
    """
    best = once(name)
    for _ in range(retries):
        if best["others_cpu"] <= limit:
            break
        log(f"{what} {name}: other programs took {best['others_cpu']:.0%} of the processors, once more")
        time.sleep(10)
        row = once(name)
        best = min(best, row, key=lambda r: r["others_cpu"])
    return best


def interleave(what: str, names: list[str], rounds: int, once: Callable[[str], dict[str, Any]], limit: float = 0.1,
               retries: int = 0) -> tuple[Figures, dict[str, str]]:  # fmt: skip
    """Call `once(name)` round by round; a program that fails is left out of later rounds and its error kept."""
    figures: Figures = {}
    errors: dict[str, str] = {}
    for number, name in order(names, rounds):
        if name in errors:
            continue
        try:
            row = quiet(what, name, once, limit, retries)
        except (RuntimeError, OSError, ValueError, KeyError, subprocess.SubprocessError) as error:
            errors[name] = str(error)
            log(f"{what} {name}: failed: {error}")
            continue
        append(figures, name, row)
        log(f"{what} {name}, round {number + 1}: " + ", ".join(f"{key} {show(value)}" for key, value in row.items()))
    return figures, errors


def show(value: Any) -> str:
    """Write a figure or a list of them for the log."""
    if isinstance(value, list):
        return "/".join(f"{v:.1f}" for v in value)
    return "-" if value is None else f"{value:.2f}"
