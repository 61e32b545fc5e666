#!/usr/bin/env python3
"""Hold what another program's runtime answers over a package against what the package's own levels say.

    python benchmarks/runtimes.py --weights ./SmolLM2 --markdown table.md

Three distributions of the next token at every position of a text: the original's; the levels', which is the original's
code (transformers, float32) over the weights that zoo reads back from the package; the runtime's.  KL to the original
is what rounding costs, KL between the last two what the runtime's arithmetic does to the same levels.
"""

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import zoo
from zoo.calibration.weights import read_package
from zoo.package.layout import lay_out
from zoo.plugins import host

TEXT = (
    "The lighthouse keeper counted the ships that passed in the night, and wrote each of them into a book: its colour, "
    "its course, the hour. In spring he sent the book to the town, where nobody read it."
)
FORMS: list[tuple[str, str, dict[str, Any]]] = [
    ("vllm", "int8", {}),
    ("vllm", "int4", {"quantizer_options": {"block_size": 32}}),
    ("vllm", "int4", {"quantizer_options": {"block_size": 32}, "target_options": {"format": "gptq"}}),
    ("vllm", "int8", {"quantizer_options": {"block_size": "row"}, "target_options": {"format": "int-quantized"}}),
    ("gguf", "int8", {}),
    ("gguf", "int4", {"quantizer_options": {"symmetric": True}}),
    ("gguf", "int4", {"quantizer_options": {"symmetric": False}}),
]


def levels_of(package: zoo.Package) -> dict[str, torch.Tensor]:
    """Read every weight of a package as zoo does, rows in the original's order."""
    layout, weights = lay_out(package.manifest.recipe, host().registry), {}
    for placed in layout.placed:
        values = read_package(layout, package.path, placed)
        for each in placed.parameter.slices:
            rows = np.arange(each.count) if each.rows is None else np.asarray(each.rows)
            into = weights.setdefault(each.tensor, torch.empty(values.shape))
            into.numpy()[rows] = values[each.places]
    return weights


def divergence(one: np.ndarray, other: np.ndarray) -> float:
    """Mean KL of rows of logits, in nats."""
    left, right = (torch.from_numpy(np.array(side)).double().log_softmax(-1) for side in (one, other))
    return float((left.exp() * (left - right)).sum(-1).mean())


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--tokens", type=int, default=48)
    parser.add_argument("--markdown", type=Path)
    args = parser.parse_args()
    tokenizer = AutoTokenizer.from_pretrained(args.weights)
    ids = tokenizer(TEXT)["input_ids"][: args.tokens]

    def answer(model: Any) -> np.ndarray:
        with torch.inference_mode():
            return model(torch.tensor([ids])).logits[0].numpy()

    model = AutoModelForCausalLM.from_pretrained(args.weights, dtype=torch.float32)
    original, lines = answer(model), []
    with tempfile.TemporaryDirectory() as work:
        for number, (target, precision, choices) in enumerate(FORMS):
            package = zoo.build(args.weights, precision, output=Path(work) / str(number), target=target, **choices)
            missing = model.load_state_dict(levels_of(package), strict=False)
            if missing.unexpected_keys:
                raise SystemExit(f"{package.path}: {missing.unexpected_keys[:3]}")
            own = answer(model)
            engine = zoo.open(package, engine="transformers" if target == "vllm" else "llama.cpp", threads=1)
            runtime = engine.logits(ids)
            if hasattr(engine, "close"):
                engine.close()
            said = " ".join(str(value) for group in choices.values() for value in group.items())
            figures = [divergence(original, runtime), divergence(original, own), divergence(own, runtime)]
            same = float((own.argmax(-1) == runtime.argmax(-1)).mean())
            lines.append(
                f"| {target} {precision} {said} | {engine.name} | "
                + " | ".join(f"{figure:.1e}" for figure in figures)
                + f" | {same:.0%} |"
            )
            print(lines[-1], flush=True)
    if args.markdown:
        args.markdown.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
