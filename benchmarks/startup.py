#!/usr/bin/env python3
"""Compare how long `zoo --help` and `zoo list` take with importing the libraries that they stand on.

python benchmarks/startup.py [--rounds 15] [--out startup.json]
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from datetime import date
from pathlib import Path

import machine
import peers
from backends import BACKENDS

BASE = "import typer, rich, pydantic, yaml"


def seconds(command: list[str]) -> float:
    """Run a command once and return its wall time; raise CalledProcessError where it fails."""
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - start


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--zoo-python", type=Path, default=Path(sys.executable), help="an interpreter that has zoo")
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    args = parser.parse_args()
    python = str(args.zoo_python)
    script = args.zoo_python.parent / "zoo"
    zoo = [str(script)] if script.is_file() else [python, "-m", "zoo"]
    commands = {"imports": [python, "-c", BASE], "zoo --help": [*zoo, "--help"], "zoo list": [*zoo, "list"]}
    for command in commands.values():
        seconds(command)
    times: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(args.rounds):
        for name, command in commands.items():
            times[name].append(seconds(command))
    medians = {name: statistics.median(values) for name, values in times.items()}
    ratios = {name: value / medians["imports"] for name, value in medians.items() if name != "imports"}
    result = {
        "kind": "startup", "date": date.today().isoformat(), "machine": machine.describe(),
        "versions": {"zoo": peers.versions_of(args.zoo_python, BACKENDS["zoo"].versions)},
        "settings": {"rounds": args.rounds, "imports": BASE}, "seconds": times, "ratio": ratios,
    }  # fmt: skip
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps(result, indent=1) + "\n")
    for name, value in medians.items():
        print(f"{name}: {value:.3f} s" + (f", {ratios[name]:.2f} times the imports" if name in ratios else ""))


if __name__ == "__main__":
    main()
