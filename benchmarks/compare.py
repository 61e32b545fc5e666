#!/usr/bin/env python3
"""Compare zoo with its peers on one shape of random weights: builds, one request, several at once.

    python benchmarks/compare.py build --precision int8 --out benchmarks/results/engine-int8.json
    python benchmarks/compare.py solo streams profile --precision int8 --out benchmarks/results/engine-int8.json
    python benchmarks/pages.py benchmarks                                 docs/benchmarks.md from the results

Peers that were never set up are set up first (--no-setup: not); one that could not be is named with the reason.
Every part measures in interleaved rounds; what --out holds already stays, and new rounds are added to it, so that a
machine that is quiet for minutes only can be used part by part.

- build: all programs' packages, which the other parts open; the input is in the page cache.
- solo: prompts of 256 and 1024 tokens, then new tokens; beside them a plain read of as many bytes as a step reads.
- streams: 1, 4 and 8 requests at once against llama.cpp's llama-batched-bench.
- profile: which kernels the time of a decode step goes to.
"""

import argparse
import json
import os
import sys
from collections.abc import Callable
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

import machine
import peers
import rounds
from backends import BACKENDS, PEERS, VARIANTS, Site
from backends.base import RUNNERS, Load, last_json
from backends.llama_cpp import streams as llama_streams
from checkpoints import ensure
from measure import measure, read_through
from shapes import SHAPES

BLOCK_128 = "zoo (block 128)"
NAMES = ["zoo", *PEERS]
OPENS = {"ik_llama.cpp": "llama.cpp"}
"""Whose packages a program without any of its own opens."""
PROMPTS = {256: 64, 1024: 16}
"""Tokens of a prompt, and of the answer after it."""
STREAMS = (1, 4, 8)
STREAM_PROMPT, STREAM_NEW = 128, 32

Part = Callable[["Bench"], dict[str, Any]]


class Bench:
    """What the parts share: who is measured, where packages are, and with which settings."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        self.cache: Path = args.cache.resolve()
        found, self.missing = peers.available(self.cache, args.peers, args.zoo_python)
        self.sites: dict[str, Site] = {
            name: site for name, site in found.items() if args.precision in BACKENDS[name].formats
        }
        for name in VARIANTS:
            if "zoo" in self.sites and args.precision in BACKENDS[name].formats:
                self.sites[name] = self.sites["zoo"]
        self.vocab = SHAPES[args.shape].vocab
        self.home = self.cache / "engine" / "home"
        os.environ |= {"ZOO_HOME": str(self.home), "ZOO_PREPACK": "never"}

    def package(self, name: str, kind: str = "random") -> Path:
        """Return where a program's package is."""
        return self.cache / "engine" / f"{self.args.shape}-{kind}-{self.args.precision}" / OPENS.get(name, name)

    def warm(self) -> None:
        """Bring everything that is opened into the page cache, as far as it fits."""
        for folder in (self.home, *(self.package(name) for name in self.sites)):
            read_through(folder)

    def zoo(self, runner: str, *args: object, env: dict[str, str] | None = None) -> dict[str, Any]:
        """Run one of zoo's runners in a process of its own; return its figures and what others took meanwhile."""
        site = self.sites["zoo"]
        return self.run([str(site.python), str(RUNNERS / runner), *map(str, args)], env)

    def run(self, command: list[str], env: dict[str, str] | None = None) -> dict[str, Any]:
        """Run a command that prints a JSON line; raise RuntimeError where it fails."""
        done = measure(command, {**rounds.environment(self.sites["zoo"]), **(env or {})})
        if done.code:
            raise RuntimeError(rounds.failure(done.stderr or done.stdout))
        return last_json(done.stdout) | {"others_cpu": done.others}

    def interleave(self, what: str, once: dict[str, Callable[[], dict[str, Any]]]) -> dict[str, Any]:
        """Call each of several measurements once a round; return their figures, and why some have none."""
        figures, errors = rounds.interleave(
            what, list(once), self.args.rounds, lambda name: once[name](), self.args.quiet, self.args.retries
        )
        return {"figures": figures, "errors": errors}


def build(bench: Bench) -> dict[str, Any]:
    """Build every program's package."""
    args = bench.args
    checkpoint = ensure(bench.cache, args.shape, "random")

    def once(name: str) -> dict[str, Any]:
        out = bench.package(name)
        out.parent.mkdir(parents=True, exist_ok=True)
        return rounds.build_once(name, bench.sites[name], checkpoint, out, args.precision)

    return bench.interleave("build", {name: partial(once, name) for name in bench.sites if name not in OPENS})


def step_bytes(bench: Bench) -> int:
    """Return the bytes of weights that a decode step reads: the package's, without the embedding but for one row."""
    shape = SHAPES[bench.args.shape]
    size = (bench.package("zoo") / "model.onnx.data").stat().st_size
    embedding = 0 if shape.tied else shape.vocab * shape.hidden / shape.parameters()
    return int(size * (1 - embedding))


def solo(bench: Bench) -> dict[str, Any]:
    """One request at a time, in a process of its own each."""
    args, result = bench.args, {}
    bench.warm()
    size = step_bytes(bench)
    reader = [str(bench.sites["zoo"].python), str(RUNNERS / "read_memory.py"), str(size), str(args.threads), "5"]

    def once(name: str, load: Load) -> Callable[[], dict[str, Any]]:
        return lambda: rounds.run_once(name, bench.sites[name], bench.package(name), load)

    for prompt, new in PROMPTS.items():
        load = Load(prompt, new, args.repeats if prompt < 1000 else 1, args.threads, bench.vocab)
        calls = {name: once(name, load) for name in bench.sites if bench.package(name).is_dir()}
        if prompt < 1000:
            calls["read"] = lambda: bench.run(reader)
        result[str(prompt)] = bench.interleave(f"prompt of {prompt}:", calls)
    return result | {"step_bytes": size}


def streams(bench: Bench) -> dict[str, Any]:
    """Several requests at once, against llama.cpp's batched bench."""
    args = bench.args
    bench.warm()

    def zoo(name: str) -> dict[str, Any]:
        return flattened(bench.zoo("zoo_streams.py", bench.package(name), STREAM_PROMPT, STREAM_NEW, bench.vocab,
                                *STREAMS))  # fmt: skip

    def llama() -> dict[str, Any]:
        site = bench.sites["llama.cpp"]
        done = measure(
            llama_streams(site, bench.package("llama.cpp"), STREAM_PROMPT, STREAM_NEW, STREAMS, args.threads),
            rounds.environment(site),
        )
        if done.code:
            raise RuntimeError(rounds.failure(done.stderr or done.stdout))
        rows = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
        found = {str(row["pl"]): {"decode_tok_s": row["speed_tg"], "total_tok_s": row["speed"]} for row in rows}
        return flattened(found | {"others_cpu": done.others})

    calls = {"zoo": partial(zoo, "zoo")}
    calls |= {name: partial(zoo, name) for name in (BLOCK_128,) if name in bench.sites}
    if "llama.cpp" in bench.sites:
        calls["llama.cpp"] = llama
    return bench.interleave("streams", calls)


def flattened(found: dict[str, Any]) -> dict[str, Any]:
    """Write {"8": {"decode_tok_s": x}} as {"decode_tok_s ×8": x}."""
    flat = {key: value for key, value in found.items() if not isinstance(value, dict)}
    return flat | {f"{key} ×{count}": value for count, row in found.items() if isinstance(row, dict)
                   for key, value in row.items()}  # fmt: skip


def profile(bench: Bench) -> dict[str, Any]:
    """Where the time of a decode step goes, by onnxruntime's profiler; plain reads of as many bytes in turn."""
    size = step_bytes(bench)
    reader = [str(bench.sites["zoo"].python), str(RUNNERS / "read_memory.py"), str(size), str(bench.args.threads), "5"]

    def once() -> dict[str, Any]:
        found = bench.zoo("zoo_profile.py", bench.package("zoo"), 256, 32, bench.vocab)
        return found | {f"kernel {name}": value for name, value in found.pop("kernel_ms").items()}

    return bench.interleave("profile", {"zoo": once, "read": lambda: bench.run(reader)}) | {"step_bytes": size}


PARTS: dict[str, Part] = {"build": build, "solo": solo, "streams": streams, "profile": profile}


def add(old: Any, new: Any) -> Any:
    """Add new rounds to old ones: lists grow, everything else is the newest."""
    if isinstance(old, dict) and isinstance(new, dict):
        return old | {key: add(old[key], value) if key in old else value for key, value in new.items()}
    if isinstance(old, list) and isinstance(new, list):
        return old + new
    return new


def merged(bench: Bench, parts: dict[str, Any]) -> dict[str, Any]:
    """Return the whole result: what --out holds of the same machine and settings, and the new parts."""
    args = bench.args
    settings: dict[str, Any] = {"shape": args.shape, "precision": args.precision, "threads": args.threads,
                "streams": {"prompt": STREAM_PROMPT, "new": STREAM_NEW, "counts": STREAMS},
                "prompts": PROMPTS}  # fmt: skip
    settings = json.loads(json.dumps(settings))  # its keys are texts then, as they are in a file
    result: dict[str, Any] = {
        "kind": "engine", "date": date.today().isoformat(), "machine": machine.describe(),
        "versions": peers.versions(bench.cache, bench.sites),
        "formats": {name: BACKENDS[name].formats[args.precision] for name in bench.sites},
        "settings": settings, "missing": bench.missing, "parts": parts,
    }  # fmt: skip
    if args.out and args.out.is_file():
        old = json.loads(args.out.read_text())
        if old["settings"] == settings and old["machine"] == result["machine"]:
            result["parts"] = {name: add(old["parts"].get(name), parts[name]) if name in parts else figures
                               for name, figures in ({**parts, **old["parts"]}).items()}  # fmt: skip
        else:
            rounds.log(f"{args.out.name} is of another machine or other settings: written anew")
    return result


def listed(text: str) -> list[str]:
    """Read comma-separated names of programs."""
    names = NAMES if text == "all" else [name for name in text.split(",") if name]
    if unknown := [name for name in names if name not in NAMES]:
        raise argparse.ArgumentTypeError(f"unknown: {', '.join(unknown)}; choose from {', '.join(NAMES)}")
    return names


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="*", help=f"of {', '.join(PARTS)}; all by default")
    parser.add_argument("--cache", type=Path, default=Path(".bench"), help="folder of peers and packages [.bench]")
    parser.add_argument("--shape", choices=SHAPES, default="tinyllama-1.1b")
    parser.add_argument("--precision", choices=["int8", "int4"], default="int8")
    parser.add_argument("--peers", type=listed, default="all", help="comma-separated, zoo too")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=2, help="generations in each process")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--quiet", type=float, default=0.1, help="share of CPU that others may take in a round [0.1]")
    parser.add_argument("--retries", type=int, default=0, help="how often to repeat a round that was not quiet [0]")
    parser.add_argument("--zoo-python", type=Path, default=Path(sys.executable), help="an interpreter that has zoo")
    parser.add_argument("--no-setup", action="store_true", help="measure only the peers that are there")
    peers.add_options(parser)
    parser.add_argument("--out", type=Path, help="write the figures as JSON, added to those that it holds")
    args = parser.parse_args()
    if unknown := {*args.what} - {*PARTS}:
        parser.error(f"unknown parts: {', '.join(sorted(unknown))}")
    new = [name for name in args.peers if name in PEERS and name not in peers.read_state(args.cache.resolve())]
    if new and not args.no_setup:
        peers.setup(args.cache.resolve(), new, vars(args))
    bench = Bench(args)
    for name in args.what or PARTS:
        result = merged(bench, {name: PARTS[name](bench)})
        if args.out:
            args.out.parent.mkdir(parents=True, exist_ok=True)
            args.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
