#!/usr/bin/env python3
"""Measure memory and time of a calibrated build of a large shape, whole or a few of its layers.

    python benchmarks/calibration_memory.py --shape llama-33b --layers 1 --samples 2
    python benchmarks/calibration_memory.py --shape tinyllama-1.1b --samples 2

Weights are random; only sizes matter.  The build runs in a process of its own, whose peak resident set size is read
when it ends.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import checkpoints
from shapes import SHAPES

WORDS = "time year people way day man thing woman life child world school state family student group country problem"


def text(tokens: int) -> str:
    """Make enough text for some calibration samples."""
    words = WORDS.split()
    return "\n".join(" ".join(words[(line * 7 + at * at) % len(words)] for at in range(16)) for line in range(tokens))


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=sorted(SHAPES), default="llama-33b")
    parser.add_argument("--layers", type=int, help="how many layers; all of the shape's")
    parser.add_argument("--samples", type=int, default=2)
    parser.add_argument("--sequence-length", type=int, default=1024)
    parser.add_argument("--precision", default="int4")
    parser.add_argument("--quantizer", default="gptq")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--work", type=Path, help="where the checkpoint and the package go; removed unless given")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        work = options.work or Path(temporary)
        name = f"{options.shape}-{options.layers or 'all'}"
        shape = SHAPES[options.shape]
        SHAPES[name] = replace(shape, layers=options.layers or shape.layers)
        folder = work / name
        if not (folder / "config.json").exists():
            checkpoints.make(name, folder)
        (work / "text.txt").write_text(text(options.samples * options.sequence_length), encoding="utf-8")
        command = [
            sys.executable, "-m", "zoo", "build", str(folder), "-p", options.precision,
            "--quantizer", options.quantizer,
            "--calibration", str(work / "text.txt"), "--samples", str(options.samples),
            "--sequence-length", str(options.sequence_length), "--device", options.device,
            "-o", str(work / "package"), "--force",
        ]  # fmt: skip
        started = time.monotonic()
        process = subprocess.Popen(command)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.monotonic() - started
        print(
            json.dumps(
                {
                    "shape": options.shape,
                    "layers": SHAPES[name].layers,
                    "quantizer": options.quantizer,
                    "precision": options.precision,
                    "tokens": options.samples * options.sequence_length,
                    "exit": os.waitstatus_to_exitcode(status),
                    "seconds": round(seconds, 1),
                    "peak_rss_gb": round(usage.ru_maxrss * 1024 / 1e9, 2),
                    "processor_seconds": round(usage.ru_utime + usage.ru_stime, 1),
                }
            )
        )


if __name__ == "__main__":
    main()
