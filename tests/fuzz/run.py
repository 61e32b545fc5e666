"""Fuzz the readers for a while: ``python -m tests.fuzz.run [--seconds N] [--memory MB] [READER ...]``.

Plain random changes by default; ``--atheris`` lets atheris (if it is installed) steer by coverage instead, for one
reader. A file that breaks a rule is kept where ``--keep`` says. Memory is limited, so that unbounded use is an error.
"""

from __future__ import annotations

import argparse
import gc
import random
import resource
import signal
import sys
import time
import traceback
from pathlib import Path
from types import FunctionType
from typing import Any

from tests.fuzz.mutations import spoil
from tests.fuzz.readers import READERS, Reader, settled


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("readers", nargs="*", metavar="READER", help=f"among {', '.join(READERS)}")
    parser.add_argument("--seconds", type=float, default=10.0, help="for each reader [10]")
    parser.add_argument("--memory", type=int, default=2048, help="address space in MB [2048]; 0 for no limit")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="folder for the files that broke a rule")
    parser.add_argument("--atheris", action="store_true")
    args = parser.parse_args()
    names = args.readers or list(READERS)
    for name in names:
        READERS[name].samples()  # everything is imported before memory is limited
        for one in READERS[name].samples():
            settled(READERS[name], one)
    if args.memory:
        resource.setrlimit(resource.RLIMIT_AS, (args.memory << 20, args.memory << 20))
    if args.atheris:
        return _steered(READERS[names[0]], args.seconds, args.keep)
    found = 0
    for name in names:
        runs, refused, broken = _random(name, args.seconds, args.seed, args.keep)
        found += broken
        print(f"{name}: {runs} files, {refused} refused, {broken} broke a rule", flush=True)
    return 1 if found else 0


def _random(name: str, seconds: float, seed: int, keep: Path | None) -> tuple[int, int, int]:
    reader, draw = READERS[name], random.Random(f"{name} {seed}")
    samples, runs, refused, seen = reader.samples(), 0, 0, set()
    signal.signal(signal.SIGALRM, _late)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        raw = spoil(draw.choice(samples), draw, text=reader.text)
        runs += 1
        try:
            signal.setitimer(signal.ITIMER_REAL, 5.0)
            refused += bool(settled(reader, raw))
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                raise
            frames = traceback.extract_tb(error.__traceback__)
            where = f"{type(error).__name__}: {str(error)[:150]} at {frames[-1].filename}:{frames[-1].lineno}"
            if (type(error), frames[-1].lineno) not in seen:
                seen.add((type(error), frames[-1].lineno))
                print(f"  {name}: {where}", file=sys.stderr, flush=True)
                if keep is not None:
                    keep.mkdir(parents=True, exist_ok=True)
                    (keep / f"{name}-{len(seen)}").write_bytes(raw)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    return runs, refused, len(seen)


def _late(number: int, frame: Any) -> None:
    raise TimeoutError("it takes more than 5 seconds")


def _steered(reader: Reader, seconds: float, keep: Path | None) -> int:
    import atheris  # type: ignore[import-not-found]

    corpus = (keep or Path("fuzz-corpus")) / "corpus"
    corpus.mkdir(parents=True, exist_ok=True)
    for index, one in enumerate(reader.samples()):
        (corpus / f"sample-{index}").write_bytes(one)

    def one(raw: bytes) -> None:
        settled(reader, raw)

    def change(raw: bytes, limit: int, seed: int) -> bytes:
        draw = random.Random(seed)
        made = spoil(raw, draw, text=reader.text) if draw.random() < 0.7 else atheris.Mutate(raw, limit)
        return made[:limit]

    for function in gc.get_objects():  # of ours alone: those of all libraries take minutes
        if isinstance(function, FunctionType) and (function.__module__ or "").split(".")[0].startswith("zoo"):
            atheris.instrument_func(function)
    stated = [f"-max_total_time={int(seconds)}", "-timeout=5", "-rss_limit_mb=0", f"-artifact_prefix={corpus.parent}/"]
    atheris.Setup([sys.argv[0], str(corpus), *stated], one, custom_mutator=change)
    atheris.Fuzz()
    return 0


if __name__ == "__main__":
    sys.exit(main())
