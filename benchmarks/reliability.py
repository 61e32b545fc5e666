#!/usr/bin/env python3
"""Kill, starve and interrupt small builds, see that each ends as it should, and write docs/reliability.md.

    python benchmarks/reliability.py [--kills 100] [--write]

Every build is a process of its own, forked from this one so that its time is the build's and not Python's start.  It
is killed (SIGKILL) from outside at moments spread evenly at random over its whole duration, and, in a second series,
by itself just before its first, second, ... operation on a name in the output's folder (open, rename, mkdir, remove).
After each kill the output must be absent or whole (every file's SHA-256), and the next build must end in the bytes of
an undisturbed one and leave nothing beside it.
"""

import argparse
import hashlib
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

import checkpoints
import machine
import measure
from bin_files import convert

HERE = Path(__file__).resolve().parent
RESULT = HERE / "reliability.json"
PAGE = HERE.parent / "docs" / "reliability.md"
CHECKPOINT = HERE.parent / "plugins" / "tiny" / "zoo_tiny" / "checkpoint"
SLOW = 0.004
"""Seconds that each slab takes longer here, so that the moments spread over the work and not over the last fsync."""


def contents(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of every file."""
    return {one.name: hashlib.sha256(one.read_bytes()).hexdigest() for one in sorted(folder.iterdir())}


def hidden(folder: Path) -> list[str]:
    """Return what lies beside the packages."""
    return sorted(one.name for one in folder.iterdir() if one.name.startswith("."))


def build(checkpoint: Path, output: Path, precision: str, *, force: bool = False, slow: float = 0.0) -> None:
    """Build as `zoo build` does, in this process."""
    from zoo.package import slabs
    from zoo.plugins import host
    from zoo.quantizers.floats import Float
    from zoo.quantizers.rtn import Rtn
    from zoo.stages.build import build as run
    from zoo.stages.resolve import Request, resolve

    slabs.SLAB = 256 << 10
    for part in (Float, Rtn) if slow else ():
        original = part.quantize

        def quantize(*args: Any, original: Any = original, **kwargs: Any) -> None:
            time.sleep(slow)
            original(*args, **kwargs)

        part.quantize = quantize
    resolved = resolve(host().registry, Request(str(checkpoint), precision))
    run(resolved.recipe, resolved.checkpoint, output, host().registry, force=force, threads=2, warn=lambda line: None)


def fork(work: Callable[[], None], errors: Path) -> int:
    """Do some work in a child as the command line does it; return its process id."""
    sys.stdout.flush()
    child = os.fork()
    if child:
        return child
    from zoo.errors import ZooError

    code = 70
    try:
        os.dup2(os.open(errors, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), 2)
        work()
        code = 0
    except ZooError as error:
        os.write(2, f"zoo: {error}\n".encode())
        code = error.exit_code
    except BaseException as error:
        os.write(2, f"{type(error).__name__}: {error}\n(a traceback)\n".encode())
    os._exit(code)


def wait(child: int) -> int:
    """Return how a child ended, as subprocess does."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


class Series:
    """One kind of build, killed again and again."""

    def __init__(self, room: Path, checkpoint: Path, precision: str, *, force: bool) -> None:
        self.room, self.checkpoint, self.precision, self.force = room, checkpoint, precision, force
        room.mkdir()
        self.output, self.errors = room / "out" / "package", room / "errors"
        build(checkpoint, room / "reference", precision)
        self.right = contents(room / "reference")
        self.valid = [self.right]
        self.old = room / "old"
        if force:
            build(checkpoint, self.old, "int4")
            self.valid.append(contents(self.old))
        self.seconds = 1e9
        for _ in range(3):
            self.begin()
            started = time.monotonic()
            assert wait(fork(self.work, self.errors)) == 0, self.errors.read_text()
            self.seconds = min(self.seconds, time.monotonic() - started)
        assert contents(self.output) == self.right
        assert not hidden(self.output.parent)
        self.counts = {
            "kills": 0,
            "killed": 0,
            "resumed": 0,
            "same": 0,
            "absent": 0,
            "whole": 0,
            "broken": 0,
            "left": 0,
        }

    def begin(self) -> None:
        """Make the place as it is before a build."""
        shutil.rmtree(self.output.parent, ignore_errors=True)
        self.output.parent.mkdir()
        if self.force:
            shutil.copytree(self.old, self.output)

    def work(self) -> None:
        """The build that is killed."""
        build(self.checkpoint, self.output, self.precision, force=self.force, slow=SLOW)

    def work_until(self, last: int) -> None:
        """Build, and die before the given operation on a name in the output's folder."""
        place, seen = str(self.output.parent), [0]

        def hook(event: str, arguments: tuple[Any, ...]) -> None:
            name = str(arguments[0]) if arguments and isinstance(arguments[0], str | Path) else ""
            if event.split(".")[0] in ("open", "os", "shutil") and name.startswith(place):
                seen[0] += 1
                if seen[0] == last:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(hook)
        build(self.checkpoint, self.output, self.precision, force=self.force)

    def check(self, code: int) -> None:
        """Look at what a killed build left, build again, and look at that."""
        counts = self.counts
        counts["kills"] += 1
        counts["killed"] += code == -signal.SIGKILL
        counts["resumed"] += any(self.output.parent.glob(f".{self.output.name}.*.zoo-partial/journal.jsonl"))
        if not (self.output / "zoo.json").exists() and not self.output.exists():
            counts["absent"] += 1
            counts["broken"] += self.force  # the old package is lost
        else:
            good = contents(self.output) in self.valid
            counts["whole" if good else "broken"] += 1
        again = wait(fork(lambda: build(self.checkpoint, self.output, self.precision, force=self.force), self.errors))
        same = again == 0 and contents(self.output) == self.right
        counts["same"] += same
        counts["left"] += bool(hidden(self.output.parent))
        if not same:
            print(self.errors.read_text(), file=sys.stderr)

    def random_moments(self, kills: int, draw: random.Random) -> dict[str, Any]:
        """Kill at random moments, until so many builds were killed before their end."""
        while self.counts["killed"] < kills:
            self.begin()
            child = fork(self.work, self.errors)
            time.sleep(draw.uniform(0, self.seconds))
            os.kill(child, signal.SIGKILL)
            code = wait(child)
            if code == 0:  # it had ended already: a busy machine made the first one slow
                self.seconds *= 0.97
                continue
            self.check(code)
        return self.counts

    def every_operation(self) -> dict[str, Any]:
        """Kill before each operation on the output's folder, one after the other."""
        self.counts = dict.fromkeys(self.counts, 0)
        for last in range(1, 1000):
            self.begin()
            code = wait(fork(lambda last=last: self.work_until(last), self.errors))  # type: ignore[misc]
            if code == 0:
                break
            self.check(code)
        return self.counts


def hardships(room: Path) -> list[dict[str, Any]]:
    """Starve and interrupt builds: what each said, how it ended, and whether the next one finished the work."""
    room.mkdir()
    build(CHECKPOINT, room / "reference", "int8")
    right, rows = contents(room / "reference"), []
    errors = room / "errors"

    def trial(name: str, before: Callable[[Path], None], during: Callable[[int], None] | None, slow: float,
              after: Callable[[Path], None] | None = None, place: Path | None = None) -> None:  # fmt: skip
        folder = place or room / name.replace(" ", "-").replace("/", "-")
        folder.mkdir(exist_ok=True)
        # Always of the same name, which is the model's in the manifest.
        checkpoint = room / f"weights-{len(rows)}" / "checkpoint"
        shutil.copytree(CHECKPOINT, checkpoint)
        stamp = os.stat(checkpoint / "model.safetensors")

        def work() -> None:
            before(checkpoint)
            build(checkpoint, folder / "out", "int8", slow=slow)

        child = fork(work, errors)
        if during is not None:
            time.sleep(0.35)
            during(child)
        code, said = wait(child), errors.read_text().splitlines()
        lock = ".out.zoo-lock" in hidden(folder)
        kept = any(folder.glob(".out.*.zoo-partial"))
        if after is not None:
            after(folder)
        shutil.copyfile(CHECKPOINT / "model.safetensors", checkpoint / "model.safetensors")
        os.utime(checkpoint / "model.safetensors", ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
        build(checkpoint, folder / "out", "int8")
        line = said[0].replace(f"{room}/", "").replace(str(folder.parent), "") if said else ""
        rows.append({"name": name, "code": code, "lines": len(said), "said": line, "lock_released": not lock,
                     "kept": kept, "same": contents(folder / "out") == right and not hidden(folder)})  # fmt: skip

    def limit(size: int) -> Callable[[Path], None]:
        return lambda _: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    def signalled(number: int) -> Callable[[int], None]:
        return lambda child: os.kill(child, number)

    def nothing(_: Path) -> None: ...

    trial("file-size limit of 1 MB", limit(1_000_000), None, 0.0)
    trial("SIGINT", nothing, signalled(signal.SIGINT), 0.02)
    trial("SIGTERM", nothing, signalled(signal.SIGTERM), 0.02)

    def shorten(checkpoint: Path) -> None:
        from zoo.sources.folder import FolderCheckpoint

        read = FolderCheckpoint.read
        calls = [0]

        def cut(self: Any, *args: Any) -> Any:
            calls[0] += 1
            if calls[0] == 20:
                os.truncate(checkpoint / "model.safetensors", 3_000_000)
            return read(self, *args)

        FolderCheckpoint.read = cut  # type: ignore[method-assign]

    trial("weights cut short while they are read", shorten, None, 0.0)
    disk = room / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(disk)], capture_output=True)
    if mounted.returncode == 0:
        try:

            def grow(_: Path) -> None:
                subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)

            trial("disk of 2 MB: refused before it starts", nothing, None, 0.0, grow, disk)
            shutil.rmtree(disk / "out")
            subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)

            def unreserved(_: Path) -> None:
                from zoo.package import datafile
                from zoo.stages import build as stage

                # As if another program took the space after the build began.
                stage._require_space = lambda *_: None  # type: ignore[assignment]
                datafile._reserve = lambda file, size: os.ftruncate(file, size)
                (disk / "other").write_bytes(bytes(62 << 20))

            def free(_: Path) -> None:
                (disk / "other").unlink()

            trial("disk that fills while it builds", unreserved, None, 0.0, free, disk)
        finally:
            subprocess.run(["umount", str(disk)], check=True)
    else:
        rows.append({"name": "disk that fills", "skipped": "mounting a small file system takes privileges"})
    return rows


def predictions(room: Path) -> list[dict[str, Any]]:
    """Compare what `zoo build --dry-run` predicts with what the build takes, each in a process of its own."""
    room.mkdir()
    large = room / "tinyllama"
    checkpoints.make("tinyllama-1.1b", large, "sparse", shard_gb=4.0)
    rows = []
    for name, folder, precision in (
        *((f"bundled small model, {one}", CHECKPOINT, one) for one in ("int8", "int4", "fp16", "fp32")),
        *((f"1.1B shape, safetensors, {one}", large, one) for one in ("int8", "int4", "fp16")),
        ("1.1B shape, .bin, int8", convert(large, room / "bin"), "int8"),
    ):  # fmt: skip
        out = room / "out"
        command = [sys.executable, "-m", "zoo", "build", str(folder), "-p", precision, "-o", str(out)]
        plan = json.loads(subprocess.run([*command, "--dry-run", "--json"], capture_output=True, check=True).stdout)
        done = measure.measure(command)
        assert done.code == 0, done.stderr
        largest = max(one["nbytes"] for one in plan["reads"])
        rows.append({"name": name, "predicted_peak": plan["peak_memory_bytes"], "peak": done.peak_rss,
                     "predicted_bytes": plan["write_bytes"], "bytes": measure.folder_bytes(out),
                     "largest_tensor": largest})  # fmt: skip
        print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
        shutil.rmtree(out)
    return rows


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--kills",
        type=int,
        default=100,
        help="random moments of the first kind of build; a quarter for the others [100]",
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--write", action="store_true", help=f"write {RESULT.name} and docs/{PAGE.name}")
    parser.add_argument("--page", action="store_true", help=f"only write docs/{PAGE.name} again from {RESULT.name}")
    parser.add_argument(
        "--memory", action="store_true", help=f"only compare predictions, and add them to {RESULT.name}"
    )
    args = parser.parse_args()
    if args.page:
        from reliability_page import page

        PAGE.write_text(page(json.loads(RESULT.read_text())))
        return
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    import logging

    logging.disable(logging.WARNING)
    if args.memory:
        with tempfile.TemporaryDirectory(prefix="zoo-reliability-") as name:
            result = json.loads(RESULT.read_text()) | {"memory": predictions(Path(name) / "memory")}
        RESULT.write_text(json.dumps(result, indent=1) + "\n")
        return
    draw, series = random.Random(args.seed), []
    with tempfile.TemporaryDirectory(prefix="zoo-reliability-") as name:
        room = Path(name)
        pickle = convert(CHECKPOINT, room / "bin")
        for title, checkpoint, precision, force in (
            ("safetensors, int8", CHECKPOINT, "int8", False), ("safetensors, fp16", CHECKPOINT, "fp16", False),
            (".bin, int8", pickle, "int8", False), (".bin, fp16", pickle, "fp16", False),
            ("--force over an int4 package, int8", CHECKPOINT, "int8", True),
        ):  # fmt: skip
            kind = Series(room / f"series{len(series)}", checkpoint, precision, force=force)
            kills = args.kills if not series else max(1, args.kills // 4)
            row: dict[str, Any] = {"name": title, "random": kind.random_moments(kills, draw)}
            if not series or force:
                row["operations"] = kind.every_operation()
            shutil.rmtree(kind.room)
            series.append(row)
            print(json.dumps(row), file=sys.stderr, flush=True)
        rows = hardships(room / "hardships")
    versions = {one: version(one) for one in ("model-zoo-framework", "numpy", "onnx")}
    result = {"kind": "reliability", "date": date.today().isoformat(), "machine": machine.describe(),
              "versions": versions, "seed": args.seed, "series": series, "hardships": rows}  # fmt: skip
    print(json.dumps(result, indent=1))
    if args.write:
        from reliability_page import page

        RESULT.write_text(json.dumps(result, indent=1) + "\n")
        PAGE.write_text(page(result))
    bad = [one for row in series for one in (row["random"], row.get("operations", row["random"]))
           if one["same"] != one["kills"] or one["broken"] or one["left"]]  # fmt: skip
    bad += [
        row for row in rows if "skipped" not in row and not (row["same"] and row["lock_released"] and row["lines"] == 1)
    ]
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
