#!/usr/bin/env python3
"""Measure what calibrated quantizers keep: the tables of docs/calibration.md, which pages.py writes.

    python benchmarks/calibration.py --model zoo-tiny TEXT --model CHECKPOINT TEXT

Each text is cut in two: samples come from the first part, perplexity from the second.  Every variant is built from
three seeds, which draw other samples, and measured twice: with its stored weights and float32 activations, and as it
ships, by ONNX Runtime with activations rounded in its kernels.  Both are held against the original weights in float32.
"""

import argparse
import json
import sys
import tempfile
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import machine
import numpy as np
from numpy.typing import NDArray
from pages import RESULTS as ALL_RESULTS
from pages import spread

import zoo
from zoo.calibration.execute import Executor
from zoo.calibration.program import cut
from zoo.calibration.weights import read_float32, read_package
from zoo.package.layout import lay_out
from zoo.plugins import host
from zoo.quantizers.slab import Scratch
from zoo.stages.resolve import Request, resolve
from zoo.verify.candidate import Candidate

RESULTS = ALL_RESULTS / "calibration"
SHARE = 0.6
"""The part of a text that samples come from."""
WINDOW = 256


@dataclass(frozen=True)
class Variant:
    """A way to build a model."""

    precision: str
    quantizer: str
    options: dict[str, Any] = field(default_factory=dict)
    seeds: tuple[int, ...] = (0, 1, 2)

    @property
    def name(self) -> str:
        """The quantizer and what it departs in from its defaults."""
        extra = ", ".join(
            f"{name.replace('_', ' ')} {value}" for name, value in self.options.items() if name != "block_size"
        )
        return f"{self.quantizer}{f' ({extra})' if extra else ''}"


def variants(block8: int, block4: int) -> list[Variant]:
    """List what is measured; round to nearest has nothing to draw."""
    found = [Variant("int8", "rtn", {"block_size": block8}, (0,))]
    found += [Variant("int8", one, {"block_size": block8}) for one in ("gptq", "awq")]
    for symmetric, block in ((True, block4), (False, block4), (True, 128)):
        base: dict[str, Any] = {"block_size": block, "symmetric": symmetric}
        found += [Variant("int4", "rtn", base, (0,)), Variant("int4", "gptq", base), Variant("int4", "awq", base)]
    base = {"block_size": block4, "symmetric": True}
    found.append(Variant("int4", "gptq", {**base, "activation_order": False}))
    found.append(Variant("int4", "gptq", {**base, "true_sequential": True}))
    return found


def windows(folder: Path, text: str, length: int) -> list[NDArray[np.int64]]:
    """Cut a text into token windows, each led by what the tokenizer puts before a text."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_truncation()
    lead = tokenizer.encode("").ids
    ids, body = tokenizer.encode(text, add_special_tokens=False).ids, length - len(lead)
    return [np.array(lead + ids[at : at + body], np.int64) for at in range(0, len(ids) - body + 1, body)]


class Loss:
    """What a model loses on texts against reference log probabilities, added up window by window."""

    def __init__(self) -> None:
        self.likelihood = self.divergence = 0.0
        self.count = 0

    def add(self, logits: Any, ids: NDArray[np.int64], reference: Any) -> None:
        """Add a window: logits and reference log probabilities are (length, vocab)."""
        import torch

        found = torch.log_softmax(torch.as_tensor(logits), -1)[:-1]
        right = reference[:-1]
        self.likelihood -= float(found.gather(1, torch.from_numpy(ids)[1:, None]).sum())
        self.divergence += float((right.exp() * (right - found)).sum())
        self.count += len(ids) - 1

    @property
    def perplexity(self) -> float:
        """The perplexity."""
        return float(np.exp(self.likelihood / self.count))

    @property
    def kl(self) -> float:
        """Mean KL(reference ‖ model) of a position, nats."""
        return self.divergence / self.count


class FloatModel:
    """A model computed in float32 from given weights: the checkpoint's own, or those that a package stores."""

    def __init__(self, recipe: Any, checkpoint: Any, package: Path | None) -> None:
        layout = lay_out(recipe, host().registry)
        assert layout.architecture is not None
        self.program = cut(layout.program)
        self.executor = Executor("cpu")
        scratch = Scratch()
        self.weights = {}
        for one in layout.placed:
            values = (
                read_float32(one.parameter, checkpoint, scratch)
                if package is None
                else read_package(layout, package, one)
            )
            self.weights[one.parameter.name] = self.executor.torch.from_numpy(values)

    def logits(self, ids: NDArray[np.int64]) -> Any:
        """Logits of a window, (length, vocab)."""
        torch = self.executor.torch
        with torch.no_grad():
            state = torch.from_numpy(ids[None])
            for segment in (self.program.before, *self.program.layers, self.program.after):
                state = self.executor.run(segment, state, self.weights)
        return state[0]


def in_float(model: FloatModel, texts: list[NDArray[np.int64]], references: list[Any]) -> Loss:
    """What weights lose with float32 activations."""
    loss = Loss()
    for ids, right in zip(texts, references, strict=True):
        loss.add(model.logits(ids), ids, right)
    return loss


def as_shipped(package: Path, texts: list[NDArray[np.int64]], references: list[Any]) -> Loss:
    """What the package loses under ONNX Runtime."""
    candidate, loss = Candidate(package), Loss()
    candidate.begin(texts)
    for layer in range(candidate.num_layers):
        candidate.step(layer, {})
    for index, (ids, right) in enumerate(zip(texts, references, strict=True)):
        loss.add(candidate.logits(index, 0, len(ids)), ids, right)
    return loss


def measure(model: str, text: Path, options: argparse.Namespace, work: Path) -> dict[str, Any]:
    """Build and measure every variant of a model."""
    whole = text.read_text(encoding="utf-8")[: options.characters]
    cut = whole.index("\n", int(len(whole) * SHARE))
    (work / "calibration.txt").write_text(whole[:cut], encoding="utf-8")
    resolved = resolve(host().registry, Request(model))
    assert resolved.checkpoint is not None
    folder = resolved.checkpoint.folder
    assert folder is not None
    length = min(WINDOW, resolved.recipe.architecture.max_position_embeddings)
    texts = windows(folder, whole[cut:], length)
    original = FloatModel(resolved.recipe, resolved.checkpoint, None)
    references = [original.logits(ids).log_softmax(-1) for ids in texts]
    reference = in_float(original, texts, references).perplexity
    result: dict[str, Any] = {
        "model": Path(model).name, "text": text.name, "tokens": sum(len(one) - 1 for one in texts),
        "perplexity": reference, "variants": [],
    }  # fmt: skip
    arch = resolved.recipe.architecture
    result["about"] = f"Hidden size {arch.hidden_size}, {arch.num_hidden_layers} layers, {arch.attention}."
    print(f"{model}: float32 {reference:.4f} on {result['tokens']} tokens", file=sys.stderr, flush=True)
    for variant in variants(128, 32):
        runs = []
        for seed in variant.seeds:
            output = work / "package"
            package = zoo.build(
                model, variant.precision, output=output, force=True, quantizer=variant.quantizer,
                quantizer_options=variant.options, seed=seed,
                calibration=None if variant.quantizer == "rtn" else work / "calibration.txt",
                samples=None if variant.quantizer == "rtn" else options.samples,
                sequence_length=None if variant.quantizer == "rtn" else length,
            )  # fmt: skip
            model_of_package = FloatModel(package.manifest.recipe, resolved.checkpoint, output)
            stored = in_float(model_of_package, texts, references)
            shipped = as_shipped(output, texts, references)
            runs.append(
                {
                    "seed": seed,
                    "float": stored.perplexity / reference - 1,
                    "float_kl": stored.kl,
                    "shipped": shipped.perplexity / reference - 1,
                    "shipped_kl": shipped.kl,
                }
            )
        found = {
            "precision": variant.precision, "name": variant.name, "quantizer": variant.quantizer,
            "block": variant.options["block_size"], "symmetric": variant.options.get("symmetric", True),
            "options": variant.options, "runs": runs,
        }  # fmt: skip
        result["variants"].append(found)
        loss = spread([run["float_kl"] for run in runs], ".1e")
        print(f"{variant.precision} {variant.name}: KL {loss}", file=sys.stderr, flush=True)
    return result


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", nargs=2, action="append", required=True, metavar=("MODEL", "TEXT"))
    parser.add_argument("--characters", type=int, default=150_000, help="how much of each text to use [150000]")
    parser.add_argument("--samples", type=int, default=64, help="calibration samples of 256 tokens [64]")
    parser.add_argument(
        "--json", type=Path, default=RESULTS / "quality.json", help="where the figures go [%(default)s]"
    )
    options = parser.parse_args()
    found = []
    for model, text in options.model:
        with tempfile.TemporaryDirectory() as work:
            found.append(measure(model, Path(text), options, Path(work)))
    save(options.json, found)


def save(path: Path, results: list[dict[str, Any]], libraries: tuple[str, ...] = ("onnxruntime", "torch")) -> None:
    """Write figures with the machine and the versions that they were measured on."""
    here = machine.describe()
    versions = {one: version(one) for one in libraries}
    whole = {"machine": f"{here['cpu']}, {here['system']}", "versions": versions, "results": results}
    path.write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
