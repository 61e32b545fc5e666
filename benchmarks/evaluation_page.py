"""Write docs/evaluation.md from what benchmarks/eval.py kept."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HEAD = """# Evaluation

<!-- Written by benchmarks/eval.py; do not edit. -->

`zoo eval` scores a package through lm-evaluation-harness: the harness makes the prompts and counts the points, the
engine computes. Reports are kept under the recipe's hash; `zoo report` puts them into one table.

## What a score does not depend on

- **What else is computed.** Options share their question's context, questions the examples before them; short options
  run side by side. onnxruntime's kernels round a little otherwise where a step has one token, or the last of an odd
  number of them, so every step has an even number: a score is the same to the bit alone, among others, at any batch
  size, in one process or in several.
- **A kill.** Answers are journaled as they come; the same command goes on where it was, and ends in the same figures.
- **The length of a text.** A text longer than the context loses its beginning, as with the harness' own models, and the
  report counts such samples (`cut_short`); an option longer than the context is refused.

Prompts and tokens are those of transformers where it reads `tokenizer.json` as it stands. Some of its classes
(`LlamaTokenizer` among them) take the vocabulary and make rules of their own for spaces at the beginning and after
special tokens; `--against hf` says for how many prompts its ids are others.
"""


def write_page(results: Path, output: Path) -> None:
    """Write the page from the results that are there."""
    parts = [HEAD]
    for name, section in (("accuracy", _accuracy), ("equal", _equal), ("speed", _speed)):
        path = results / f"eval-{name}.json"
        if path.is_file():
            parts.append("\n".join(section(json.loads(path.read_text()))) + "\n")
    output.write_text("\n".join(parts), encoding="utf-8")


def _accuracy(found: dict[str, Any]) -> Iterator[str]:
    yield "## Scores of a real model"
    yield ""
    yield (
        f"{found['model']} ([accuracy.md](accuracy.md) says what it is, and has KL and perplexities), scored by the "
        "likelihood of each option without worked examples, on the first questions of public data in OpenCompass' "
        "layout. Differences are paired, question by question; ± is a standard error."
    )
    yield ""
    yield "| task | questions | precision | acc | acc less fp32's | same answer as fp32 |"
    yield "|---|---:|---|---:|---:|---:|"
    for row in found["rows"]:
        measured, against = row["measured"], row["measured"].get("against")
        line = f"| {row['task']} | {measured['samples']} | {row['precision']} "
        line += f"| {measured['acc']:.4f} ± {measured['acc_stderr']:.4f} "
        if against is None:
            yield line + "| – | – |"
            continue
        (acc,) = [metric for metric in against["metrics"] if metric["metric"] == "acc"]
        yield line + f"| {acc['difference']:+.4f} ± {acc['stderr']:.4f} | {against['agreement']:.2%} |"
    yield ""
    yield "    python benchmarks/eval.py accuracy --data DIR"


def _equal(found: dict[str, Any]) -> Iterator[str]:
    yield "## fp32 and the harness' own model"
    yield ""
    yield "zoo-tiny in float32 against `hf` of lm-evaluation-harness on the same weights, sample by sample:"
    yield ""
    yield "| task | examples | samples | same answer | metric | zoo | hf |"
    yield "|---|---:|---:|---:|---|---:|---:|"
    for task in found["tasks"]:
        agreement = "–" if task["agreement"] is None else f"{task['agreement']:.2%}"
        for one in task["metrics"]:
            head = f"{task['task']} | {task['num_fewshot']} | {task['samples']} | {agreement}"
            yield f"| {head} | {one['metric']} | {one['value']:.6f} | {one['other']:.6f} |"
    yield ""
    yield "    python benchmarks/eval.py equal"


def _speed(found: dict[str, Any]) -> Iterator[str]:
    machine, versions = found["machine"], found["versions"]
    yield "## Speed"
    yield ""
    shape = found["shape"].removeprefix("tinyllama-")
    yield (
        f"The {shape} shape with random weights: int8 through `zoo eval` against the harness' `hf` model in float32, "
        f"batch size {found['hf_batch_size']}, the same texts in the same call. Seconds are medians of rounds in turns."
    )
    yield ""
    yield "| load | questions | zoo int8, s | hf float32, s | times faster |"
    yield "|---|---:|---:|---:|---:|"
    for one in found["loads"]:
        mine, other = statistics.median(one["zoo_int8"]), statistics.median(one["hf_float32"])
        yield f"| {one['title']} | {one['questions']} | {mine:.1f} | {other:.1f} | {one['times_faster']:.1f} |"
    yield ""
    yield (
        f"Measured on {machine['cpu']}, {machine['cores']} cores, {machine['system']}, with "
        + ", ".join(f"{name} {version}" for name, version in versions.items())
        + "."
    )
    yield ""
    yield "    python benchmarks/eval.py speed"
