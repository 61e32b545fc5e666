#!/usr/bin/env python3
"""Measure `zoo eval`: its speed against the harness' own hf model, its equality with it, what quantizing costs.

    python benchmarks/eval.py speed                        HellaSwag-like options and single-token ones, 1.1B shape
    python benchmarks/eval.py equal                        fp32 against the hf model, sample by sample, three tasks
    python benchmarks/eval.py accuracy --data DIR          a real model's scores: fp32, int8 and int4; DIR holds
                        the files of PIQA, ARC-Challenge and MMLU as OpenCompass' archive lays them out

Each writes JSON under benchmarks/results/, and docs/evaluation.md. Both sides of `speed` get the same texts through the
same call of the harness, tokenizing included, loading not; they take turns, each in a process of its own. Weights are
random: of a right shape, and good for nothing else.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pages
import real_model
from checkpoints import ensure
from machine import describe

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
RESULTS = HERE / "results"
LETTERS = "abcdefghijklmnopqrstuvwxyz"
LOADS = {
    # HellaSwag's validation rows, in Llama's tokens: contexts of some 85, endings of some 28.
    "hellaswag": {"title": "HellaSwag-like: 4 endings", "context": (40, 130), "options": 4, "length": (12, 44)},
    # MMLU's questions without examples; each answer is a letter.
    "letters": {"title": "single-token options: 4 letters", "context": (60, 200), "options": 4, "length": (1, 1)},
}
TASKS = (
    ("oc_piqa", 200),
    ("oc_arc_c", 200),
    ("oc_mmlu", 2),
)
"""Each with its number of questions; MMLU's is of each of 57 subjects."""


def texts(load: str, count: int, seed: int) -> list[tuple[str, str]]:
    """Draw questions as (context, option); a word of two letters is a token of the made-up tokenizer."""
    rng = random.Random(seed)
    shape = LOADS[load]

    def words(between: tuple[int, int]) -> str:
        return "".join(" " + rng.choice(LETTERS) + rng.choice(LETTERS) for _ in range(rng.randint(*between)))

    pairs = []
    for _ in range(count):
        context = words(shape["context"]).strip()
        pairs += [(context, words(shape["length"])) for _ in range(shape["options"])]
    return pairs


def time_side(side: str, path: Path, load: str, count: int, seed: int, batch: int) -> dict[str, Any]:
    """Score the texts of a load with one side; return seconds and the log-likelihoods."""
    from lm_eval.api.instance import Instance

    if side == "zoo":
        from zoo.evaluation.harness_model import EngineModel
        from zoo.evaluation.journal import Journal
        from zoo.evaluation.prompting import Prompting
        from zoo.evaluation.scorer import LocalScorer
        from zoo.package.folder import open_package
        from zoo.stages.opening import Opener

        journal = Journal(Path(tempfile.mkdtemp()) / "journal.jsonl")
        model: Any = EngineModel(LocalScorer(Opener(path)), Prompting(open_package(path)), journal)
    else:
        from lm_eval.models.huggingface import HFLM

        model = HFLM(pretrained=str(path), device="cpu", dtype="float32", batch_size=batch)

    def ask(pairs: list[tuple[str, str]]) -> list[Any]:
        made = [Instance("loglikelihood", {}, pair, 0, ("bench", index, 1)) for index, pair in enumerate(pairs)]
        return model.loglikelihood(made, disable_tqdm=True)

    ask(texts(load, 1, seed + 1))
    started = time.perf_counter()
    answers = ask(texts(load, count, seed))
    return {"seconds": time.perf_counter() - started, "logprobs": [float(one[0]) for one in answers]}


def run_side(*arguments: Any) -> dict[str, Any]:
    """Run one side in a process of its own."""
    command = [sys.executable, __file__, "side", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"TQDM_DISABLE": "1"})
    if done.returncode:
        raise SystemExit(done.stderr[-2000:])
    return json.loads(done.stdout.splitlines()[-1])


def speed(args: argparse.Namespace) -> dict[str, Any]:
    """Time both sides, in turns; loads that were measured before under the same conditions are kept."""
    checkpoint = ensure(args.cache, args.shape, "random")
    package = args.cache / "evaluation" / f"{args.shape}-int8"
    subprocess.run([sys.executable, "-m", "zoo", "build", str(checkpoint), "-o", str(package)], check=True, stdout=2)
    found = []
    for load in args.loads:
        seconds: dict[str, list[float]] = {"zoo": [], "hf": []}
        for turn in range(args.rounds):
            mine = run_side("zoo", package, load, args.questions, turn, args.batch)
            other = run_side("hf", checkpoint, load, args.questions, turn, args.batch)
            for side, one in (("zoo", mine), ("hf", other)):
                seconds[side].append(one["seconds"])
                print(f"{load} {side}: {one['seconds']:.1f} s", file=sys.stderr)
        found.append(
            {
                "load": load, "title": LOADS[load]["title"], "questions": args.questions, "rounds": args.rounds,
                "zoo_int8": seconds["zoo"], "hf_float32": seconds["hf"],
                "times_faster": statistics.median(seconds["hf"]) / statistics.median(seconds["zoo"]),
            }
        )  # fmt: skip
    result = {"shape": args.shape, "hf_batch_size": args.batch, "loads": found, "machine": describe(), **versions()}
    kept = RESULTS / "eval-speed.json"
    before = json.loads(kept.read_text()) if kept.is_file() else {}
    if all(before.get(key) == result[key] for key in result if key != "loads"):
        result["loads"] = [one for one in before["loads"] if one["load"] not in args.loads] + found
    return result


def equal(args: argparse.Namespace) -> dict[str, Any]:
    """Hold the fp32 package of zoo-tiny against the hf model on three tasks."""
    task = ROOT / "plugins/tiny/zoo_tiny/task"
    found = []
    for name, more in (
        ("zoo_tiny_choice", ["--limit", args.limit]),
        ("zoo_tiny_choice", ["--num-fewshot", 2, "--limit", args.limit]),
        ("perplexity", ["--data", task / "heldout.txt"]),
    ):
        done = evaluate(
            "zoo-tiny", "fp32", name, "--against", "hf", "--weights", ROOT / "plugins/tiny/zoo_tiny/checkpoint", *more
        )
        comparison, settings = done["comparisons"][0], done["reports"][0]["settings"]
        found.append({**comparison, "num_fewshot": settings["num_fewshot"]})
        print(f"{name}: agreement {comparison['agreement']}, {comparison['verdict']}", file=sys.stderr)
    return {"tasks": found, "machine": describe(), **versions()}


def accuracy(args: argparse.Namespace) -> dict[str, Any]:
    """Score a real model in three precisions, each against fp32 question by question; rows that are there stay."""
    model = str(real_model.make(args.cache.resolve(), off_grid=True))
    fp32, kept = build(model, "fp32"), RESULTS / "eval-accuracy.json"
    result = {"model": real_model.OFF_GRID, "limits": dict(TASKS), "machine": describe(), **versions(), "rows": []}
    before = json.loads(kept.read_text()) if kept.is_file() else {}
    if all(before.get(key) == value for key, value in result.items() if key != "rows"):
        result["rows"] = before["rows"]
    for task, limit in TASKS:
        for precision in ("fp32", "int8", "int4"):
            if any((row["task"], row["precision"]) == (task, precision) for row in result["rows"]):
                continue
            against = [] if precision == "fp32" else ["--against", fp32]
            given = ["--data", args.data, "--limit", limit, "--scoring", "likelihood", "--num-fewshot", 0]
            report = evaluate(model, precision, task, *against, *given)["reports"][0]
            result["rows"].append({"task": task, "precision": precision, "measured": report["measured"]})
            kept.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")
            print(f"{task} {precision}: acc {report['measured']['acc']:.4f}", file=sys.stderr, flush=True)
    return result


def build(model: str, precision: str) -> Path:
    """Build a model, once."""
    package = Path(tempfile.gettempdir()) / "zoo-evaluation" / f"{Path(model).name}-{precision}"
    command = [sys.executable, "-m", "zoo", "build", model, "-p", precision, "-o", package]
    subprocess.run(list(map(str, command)), check=True, stdout=2)
    return package


def evaluate(model: str, precision: str, task: str, *more: Any) -> Any:
    """Run `zoo eval`."""
    command = [sys.executable, "-m", "zoo", "eval", build(model, precision), "--tasks", task, "--json", *more]
    home = {"ZOO_HOME": str(Path(tempfile.gettempdir()) / "zoo-evaluation" / "home")}
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, env=os.environ | home)
    if done.returncode:
        raise SystemExit(done.stderr[-2000:])
    return json.loads(done.stdout)


def versions() -> dict[str, Any]:
    """Name the versions of what took part."""
    from importlib.metadata import version

    return {"versions": {name: version(name) for name in ("lm_eval", "onnxruntime", "torch", "transformers")}}


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    timed = commands.add_parser("speed")
    timed.add_argument("--cache", type=Path, default=ROOT / ".bench")
    timed.add_argument("--shape", default="tinyllama-1.1b")
    timed.add_argument("--questions", type=int, default=8)
    timed.add_argument("--rounds", type=int, default=3)
    timed.add_argument("--batch", type=int, default=8, help="the hf model's batch size")
    timed.add_argument("--loads", nargs="+", choices=LOADS, default=list(LOADS))
    compared = commands.add_parser("equal")
    compared.add_argument("--limit", type=int, default=200)
    scored = commands.add_parser("accuracy")
    scored.add_argument("--cache", type=Path, default=ROOT / ".bench")
    scored.add_argument("--data", type=Path, required=True)
    side = commands.add_parser("side")
    side.add_argument("side", choices=["zoo", "hf"])
    side.add_argument("path", type=Path)
    side.add_argument("load", choices=LOADS)
    for name in ("count", "seed", "batch"):
        side.add_argument(name, type=int)
    args = parser.parse_args()
    if args.command == "side":
        print(json.dumps(time_side(args.side, args.path, args.load, args.count, args.seed, args.batch)))
    else:
        result = {"speed": speed, "equal": equal, "accuracy": accuracy}[args.command](args)
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / f"eval-{args.command}.json").write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")
        pages.write("evaluation")


if __name__ == "__main__":
    main()
