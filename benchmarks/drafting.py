#!/usr/bin/env python3
"""Measure decoding with a draft model whose guesses are right as often as asked.

    python benchmarks/drafting.py --shape llama2-7b --draft llama-160m --acceptance 0 0.7 0.85 --out drafting.json

Model and draft are made as editing.py makes its checkpoint: after each token comes its successor.  The draft has
another successor after some tokens: it is right at the share that --acceptance says.  The layers are holes: they add
nothing, and a step computes them all the same.  Plain and guessed answers take turns over one loaded model, and must be
the same tokens.  Time is reported as ratios of neighbours, and as processor time.
"""

import argparse
import json
import shutil
import statistics
import sys
import time
from datetime import date
from pathlib import Path
from typing import Any

import editing
import machine
from checkpoints import make
from shapes import SHAPES

import zoo


def package(cache: Path, name: str, precision: str, right: float = 1.0) -> Path:
    """Build the package of a shape that is right at a share of tokens."""
    out = cache / "drafting" / f"{name}-{precision}-{right:g}"
    if not (out / "zoo.json").is_file():
        checkpoint = cache / "drafting" / f"{name}-checkpoint"
        shutil.rmtree(checkpoint, ignore_errors=True)
        make(name, checkpoint, "sparse")
        editing.rewrite(checkpoint, name, 1 - right, sparse=True)
        zoo.build(checkpoint, precision, output=out)
        shutil.rmtree(checkpoint)
    return out


def measure(model: Path, draft: Path, prompt: list[int], new: int, rounds: int, threads: int | None) -> dict[str, Any]:
    """Answer a prompt plainly and with the draft, in turns."""
    engine, smaller = zoo.open(model, threads=threads), zoo.open(draft, threads=threads)
    found: dict[str, Any] = {name: [] for name in ("plain_s", "draft_s", "plain_cpu_s", "draft_cpu_s", "ratio")}
    for draft_or_none in (None, smaller):
        engine.guess_with(draft_or_none)
        engine.generate(prompt, max_new_tokens=4, ignore_eos=True)
    for _ in range(rounds):
        answers = {}
        for name, guesses in (("plain", None), ("draft", smaller)):
            engine.guess_with(guesses)
            started, cpu = time.perf_counter(), time.process_time()
            answers[name] = engine.generate(prompt, max_new_tokens=new, ignore_eos=True)
            found[f"{name}_s"].append(time.perf_counter() - started)
            found[f"{name}_cpu_s"].append(time.process_time() - cpu)
        assert answers["plain"].token_ids == answers["draft"].token_ids
        decode = [answers[name].timings.decode_s for name in ("plain", "draft")]
        found["ratio"].append(decode[0] / decode[1])
        timings = answers["draft"].timings
        found |= {"guessed": timings.guessed, "guessed_right": timings.guessed_right}
    found["whole_answer"] = statistics.median(
        one / other for one, other in zip(found["plain_s"], found["draft_s"], strict=True)
    )
    return found


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, default=Path(".bench"), help="folder to work in [.bench]")
    parser.add_argument("--shape", choices=SHAPES, default="llama2-7b")
    parser.add_argument("--draft", choices=SHAPES, default="llama-160m")
    parser.add_argument("--precision", choices=["int8", "int4"], default="int4")
    parser.add_argument("--acceptance", type=float, nargs="+", default=[0.0, 0.7, 0.85])
    parser.add_argument("--prompt", type=int, default=128, help="tokens of the prompt [128]")
    parser.add_argument("--new", type=int, default=128, help="tokens of each answer [128]")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, help="one has no spinning workers: right for a busy machine")
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    args = parser.parse_args()
    cache, before = args.cache.resolve(), machine.describe()
    model = package(cache, args.shape, args.precision)
    prompt = editing.prompt(SHAPES[args.shape].vocab, args.prompt, args.prompt + 1)
    result: dict[str, Any] = {
        "kind": "drafting", "date": date.today().isoformat(), "machine": before,
        "settings": {"shape": args.shape, "draft": args.draft, "precision": args.precision, "prompt": len(prompt),
                     "new": args.new, "rounds": args.rounds, "threads": args.threads},
        "acceptance": {},
    }  # fmt: skip
    for share in args.acceptance:
        draft = package(cache, args.draft, args.precision, share)
        found = measure(model, draft, prompt, args.new, args.rounds, args.threads)
        result["acceptance"][f"{share:g}"] = found
        cpu = statistics.median(found["plain_cpu_s"]) / statistics.median(found["draft_cpu_s"])
        print(f"acceptance {share:g}: decode {statistics.median(found['ratio']):.2f} times, whole answer "
              f"{found['whole_answer']:.2f}, processor time {cpu:.2f}; {found['guessed_right']} of {found['guessed']} "
              "guesses right", file=sys.stderr, flush=True)  # fmt: skip
    if args.out:
        args.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
