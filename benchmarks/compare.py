#!/usr/bin/env python3
"""Compare zoo with its peers: build and run the same checkpoint in interleaved rounds.

    python benchmarks/compare.py --cache .bench --precision int8 --rounds 3 --out int8.json

Peers that were never set up are set up first (--no-setup: not); one that could not be is named with the reason.
Markdown goes to stdout: median, (lowest-highest), and in bold how many times better zoo is.  --out keeps every figure
as JSON.  Inputs are in the page cache before each build.
"""

import argparse
import json
import shutil
import sys
from datetime import date
from pathlib import Path
from typing import Any

import machine
import peers
import rounds
import tables
from backends import BACKENDS, PEERS, Site
from backends.base import Load
from checkpoints import ensure
from shapes import SHAPES


def available(cache: Path, names: list[str], zoo_python: Path) -> tuple[dict[str, Site], dict[str, str]]:
    """Return the programs that can be measured, and for the others why not."""
    state, ready = peers.read_state(cache), peers.sites(cache)
    ready["zoo"] = Site(zoo_python, cache / "zoo")
    absent = {"reason": "not set up: run benchmarks/peers.py setup"}
    missing = {name: state.get(name, absent)["reason"] for name in names if name not in ready}
    return {name: ready[name] for name in names if name in ready}, missing


def versions(cache: Path, found: dict[str, Site]) -> dict[str, dict[str, str]]:
    """Return the versions of what is measured."""
    state = peers.read_state(cache)
    return {
        name: peers.versions_of(site.python, BACKENDS[name].versions) if name == "zoo" else state[name]["versions"]
        for name, site in found.items()
        if name == "zoo" or name in state
    }


def compare(args: argparse.Namespace) -> dict[str, Any]:
    """Measure, and return the result as it is written to JSON."""
    cache = args.cache.resolve()
    new = [name for name in args.peers if name in PEERS and name not in peers.read_state(cache)]
    if new and not args.no_setup:
        peers.setup(cache, new, vars(args))
    found, missing = available(cache, args.peers, args.zoo_python)
    found = {name: site for name, site in found.items() if args.precision in BACKENDS[name].formats}
    checkpoint = ensure(cache, args.shape, args.fill)
    load = Load(args.prompt, args.new, args.repeats, args.threads, SHAPES[args.shape].vocab)
    packages = {name: cache / "packages" / f"{args.shape}-{args.fill}-{args.precision}" / name for name in found}
    result: dict[str, Any] = {
        "kind": "compare", "date": date.today().isoformat(), "machine": machine.describe(),
        "versions": versions(cache, found),
        "formats": {name: BACKENDS[name].formats[args.precision] for name in found},
        "settings": {"shape": args.shape, "fill": args.fill, "precision": args.precision, "rounds": args.rounds,
                     "prompt": args.prompt, "new": args.new, "repeats": args.repeats, "threads": args.threads,
                     "note": args.note},
        "errors": {"build": dict(missing), "run": dict(missing)},
    }  # fmt: skip
    names = list(found)
    for name in names:
        packages[name].parent.mkdir(parents=True, exist_ok=True)
    if "build" in args.what:
        result["build"], errors = rounds.interleave(
            "build", names, args.rounds,
            lambda name: rounds.build_once(name, found[name], checkpoint, packages[name], args.precision),
            args.quiet, args.retries)  # fmt: skip
        result["errors"]["build"] |= errors
        names = [name for name in names if name not in errors]
    if "run" in args.what:
        absent = {name: "no package: build it first" for name in names if not packages[name].is_dir()}
        result["run"], errors = rounds.interleave(
            "run", [name for name in names if name not in absent], args.rounds,
            lambda name: rounds.run_once(name, found[name], packages[name], load),
            args.quiet, args.retries)  # fmt: skip
        result["errors"]["run"] |= absent | errors
    if not args.keep:
        for folder in packages.values():
            shutil.rmtree(folder, ignore_errors=True)
    return result


def merged(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """Add the rounds of a new result to those of an earlier one of the same comparison, which may have other parts."""
    same = {key: new["settings"][key] for key in new["settings"] if key not in ("rounds", "note")}
    if old.get("kind") != "compare" or {key: old["settings"].get(key) for key in same} != same:
        raise SystemExit("--add: the earlier result is of another comparison")
    result = {**old, "date": new["date"], "machine": new["machine"]}
    for key in ("versions", "formats"):
        result[key] = {**old[key], **new[key]}
    for part in ("build", "run"):
        figures = result.setdefault(part, {})
        for name, row in new.get(part, {}).items():
            rounds.append(figures, name, row)
        if part in new:
            result["errors"][part] = {**old["errors"].get(part, {}), **new["errors"][part]}
        result["errors"][part] = {name: why for name, why in result["errors"][part].items() if name not in figures}
    most = max((len(row["others_cpu"]) for row in result["build"].values()), default=0)
    result["settings"]["rounds"] = max(most, max((len(row["others_cpu"]) for row in result["run"].values()), default=0))
    return result


def listed(choices: list[str]) -> Any:
    """Return a parser of comma-separated names out of `choices`."""

    def parse(text: str) -> list[str]:
        names = choices if text == "all" else [name for name in text.split(",") if name]
        if unknown := [name for name in names if name not in choices]:
            raise argparse.ArgumentTypeError(f"unknown: {', '.join(unknown)}; choose from {', '.join(choices)}")
        return names

    return parse


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, default=Path(".bench"), help="folder of peers and checkpoints [.bench]")
    parser.add_argument("--shape", choices=SHAPES, default="tinyllama-1.1b")
    parser.add_argument("--fill", choices=["random", "sparse"], default="random")
    parser.add_argument("--precision", choices=["int8", "int4", "fp32"], default="int8")
    parser.add_argument("--what", type=listed(["build", "run"]), default="build,run", help="build, run or both")
    parser.add_argument("--peers", type=listed(["zoo", *PEERS]), default="all", help="comma-separated, zoo too")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--prompt", type=int, default=256, help="tokens of the prompt")
    parser.add_argument("--new", type=int, default=64, help="tokens generated after it")
    parser.add_argument("--repeats", type=int, default=2, help="generations in each process")
    parser.add_argument("--threads", type=int, default=machine.describe()["cores"])
    parser.add_argument("--quiet", type=float, default=0.1, help="share of CPU that others may take in a round [0.1]")
    parser.add_argument("--retries", type=int, default=2, help="how often to repeat a round that was not quiet [2]")
    parser.add_argument("--zoo-python", type=Path, default=Path(sys.executable), help="an interpreter that has zoo")
    parser.add_argument("--keep", action="store_true", help="keep the packages, so that --what run alone can follow")
    parser.add_argument("--no-setup", action="store_true", help="measure only the peers that are there")
    peers.add_options(parser)
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    parser.add_argument("--note", default="", help="under what conditions, for the tables' titles")
    parser.add_argument("--add", action="store_true", help="add them to what --out holds: a long comparison in pieces")
    args = parser.parse_args()
    result = compare(args)
    if args.add and args.out and args.out.is_file():
        result = merged(json.loads(args.out.read_text()), result)
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps(result, indent=1) + "\n")
    head = [tables.machine_line(result["machine"]), *tables.versions_lines(result["versions"]), ""]
    print("\n".join([*head, *tables.comparison(result)]))
    sys.exit(0 if any(result.get(what) for what in args.what) else 1)


if __name__ == "__main__":
    main()
