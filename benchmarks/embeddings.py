#!/usr/bin/env python3
"""Embed texts of 16 and 512 tokens, 1 and 32 at once, by zoo and by other programs, on one model.

    python benchmarks/embeddings.py CHECKPOINT --zoo fp32=DIR int8=DIR --sentence-transformers PYTHON
        --fastembed PYTHON=DIR --llama-cpp f32=FILE q8_0=FILE [--rounds 3] [--threads 1] [--out FILE]

Every program takes its turn in every round, in a process of its own, and the least processor time of a workload counts:
on a machine that others use, too, that is what can be compared. Tokenizing, pooling and normalizing are part of it.
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from machine import describe
from rounds import interleave

WORKLOADS = [(16, 1), (16, 32), (512, 1), (512, 32)]
RUNNER = Path(__file__).parent / "runners" / "embed_peer.py"


def texts(checkpoint: Path) -> list[list[str]]:
    """Write texts of whole words of the vocabulary, with two special tokens around them."""
    vocabulary = json.loads((checkpoint / "tokenizer.json").read_text())["model"]["vocab"]
    words = sorted(word for word in vocabulary if word.isascii() and word.isalpha() and word.islower())
    draw = random.Random(0)
    return [[" ".join(draw.choices(words, k=length - 2)) for _ in range(batch)] for length, batch in WORKLOADS]


def table(figures: dict[str, Any]) -> str:
    """Write milliseconds of processor time, and how many times as fast as sentence-transformers."""
    lines = ["| program | " + " | ".join(f"{batch} × {length} tokens" for length, batch in WORKLOADS) + " |"]
    lines.append("|---|" + "---:|" * len(WORKLOADS))
    base = figures.get("sentence-transformers", next(iter(figures.values())))
    for name, times in figures.items():
        cells = [f"{one:.0f} ms, {other / one:.2f}" for one, other in zip(times, base, strict=True)]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--zoo", nargs="+", default=[], metavar="NAME=DIR")
    parser.add_argument("--sentence-transformers", metavar="PYTHON")
    parser.add_argument("--fastembed", metavar="PYTHON=DIR")
    parser.add_argument("--llama-cpp", nargs="+", default=[], metavar="NAME=FILE")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    programs = {f"{peer} {name}": [sys.executable, str(RUNNER), peer, path]
                for peer, given in (("zoo", args.zoo), ("llama.cpp", args.llama_cpp))
                for name, _, path in (one.partition("=") for one in given)}  # fmt: skip
    if python := args.sentence_transformers:
        programs["sentence-transformers"] = [python, str(RUNNER), "sentence-transformers", str(args.checkpoint)]
    if args.fastembed:
        python, _, folder = args.fastembed.partition("=")
        programs["fastembed"] = [python, str(RUNNER), "fastembed", folder]
    with tempfile.NamedTemporaryFile("w", suffix=".json") as words:
        json.dump(texts(args.checkpoint), words)
        words.flush()

        def once(name: str) -> dict[str, Any]:
            command = [*programs[name], str(args.threads), words.name]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                raise RuntimeError((done.stderr.strip().splitlines() or ["no output"])[-1][:300])
            said = json.loads(done.stdout.strip().splitlines()[-1])
            return {**{str(index): one for index, one in enumerate(said["cpu_ms"])}, "others_cpu": 0.0}

        measured, errors = interleave("embed", list(programs), args.rounds, once)
    best = {name: [min(rows[str(index)]) for index in range(len(WORKLOADS))] for name, rows in measured.items()}
    print(table(best))
    if args.out:
        said = {"machine": describe(), "workloads": WORKLOADS, "cpu_ms": best, "errors": errors}
        args.out.write_text(json.dumps(said, indent=1) + "\n")


if __name__ == "__main__":
    main()
