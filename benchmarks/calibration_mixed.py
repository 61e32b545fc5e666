#!/usr/bin/env python3
"""Hold ``--mixed auto`` against simpler ways to spend the same bits.

    python benchmarks/calibration_mixed.py --model MODEL TEXT [--json FILE]

Everything is int4 by gptq with some weights at int8. At each size, as many weights are raised as fit: those that auto
chooses; the first layers', the last layers', both ends' alternately; one kind of projection after the other; weights
by chance. The size of blocks half as long, which spends bits everywhere alike, is one of the sizes.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from calibration import RESULTS, FloatModel, in_float, save
from calibration_peers import Bench

import zoo
from zoo.package.layout import lay_out
from zoo.plugins import host
from zoo.stages.calibrate import calibrated
from zoo.stages.mixed import mixed, with_keep
from zoo.stages.resolve import Request, resolve


class Mixed(Bench):
    """A model built with weights at two precisions."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.plain, self.tokens = self._pinned()
        self.layout = lay_out(self.plain.recipe, host().registry)
        self.names = [one.parameter.name for one in self.layout.placed if one.parameter.kind == "linear"
                      and one.parameter.layer is not None]  # fmt: skip

    def _pinned(self, **more: Any) -> Any:
        request = Request(
            self.model, "int4", quantizer="gptq", calibration=str(self.samples), samples=self.options.samples,
            sequence_length=self.length, **more,
        )  # fmt: skip
        return calibrated(host().registry, request, resolve(host().registry, request))

    def chosen(self, budget: str) -> dict[str, Any]:
        """Ask auto; return what it keeps."""
        request = Request(
            self.model, "int4", quantizer="gptq", calibration=str(self.samples), samples=self.options.samples,
            sequence_length=self.length, mixed="auto", mixed_budget=budget,
        )  # fmt: skip
        found, choice = mixed(host().registry, request, self.plain, self.tokens)
        assert choice is not None
        keep: Any = found.recipe.quantizer.options["keep"]
        return {"keep": keep, "predicted": choice.predicted_kl}

    def filled(self, order: list[str], budget: float) -> dict[str, Any]:
        """Raise weights in this order, each that still fits."""
        keep: dict[str, Any] = {}
        for name in order:
            more = with_keep(self.plain.recipe, {**keep, name: "int8"})
            if lay_out(more, host().registry).bits_per_weight <= budget:
                keep[name] = "int8"
        return {"keep": keep}

    def orders(self) -> Iterator[tuple[str, list[str]]]:
        """Give the simpler ways: what comes first."""
        layer = {one.parameter.name: one.parameter.layer or 0 for one in self.layout.placed}
        role = {one.parameter.name: one.parameter.role for one in self.layout.placed}
        last = max(layer.values())
        yield "first layers", sorted(self.names, key=lambda one: layer[one])
        yield "last layers", sorted(self.names, key=lambda one: -layer[one])
        yield "both ends", sorted(self.names, key=lambda one: min(layer[one], last - layer[one]))
        yield (
            "down_proj, then o_proj",
            sorted(self.names, key=lambda one: (role[one] != "mlp.down_proj", role[one] != "attn.o_proj")),
        )
        for seed in range(3):
            yield f"by chance, seed {seed}", np.random.default_rng(seed).permutation(self.names).tolist()

    def built(self, what: str, **options: Any) -> dict[str, Any]:
        """Build and measure."""
        predicted = options.pop("predicted", None)
        out = self.work / "package"
        package = zoo.build(
            self.model, "int4", output=out, force=True, quantizer="gptq", quantizer_options=options,
            calibration=self.samples, samples=self.options.samples, sequence_length=self.length,
        )  # fmt: skip
        found = in_float(
            FloatModel(package.manifest.recipe, self.resolved.checkpoint, out), self.texts, self.references
        )
        run = {
            "what": what, "bits": package.manifest.bits_per_weight, "kl": found.kl, "perplexity": found.perplexity,
            "raised": sum(one == "int8" for one in options.get("keep", {}).values()), "predicted": predicted,
        }  # fmt: skip
        print(json.dumps(run), file=sys.stderr, flush=True)
        return run


def measure(model: str, text: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Measure every way at every size."""
    with tempfile.TemporaryDirectory() as work:
        bench = Mixed(model, text, options, Path(work))
        plain = bench.built("plain")
        finer = bench.built("blocks of 16", block_size=16)
        groups = [{"budget": "the plain build", "runs": [plain, bench.built("auto", **bench.chosen("0%"))]}]
        for title, budget, runs in (
            ("10 % more", plain["bits"] * 1.1, []),
            ("25 % more", plain["bits"] * 1.25, []),
            ("blocks of 16", finer["bits"], [finer]),
        ):
            runs.append(bench.built("auto", **bench.chosen(f"{budget:.4f}")))
            runs += [bench.built(name, **bench.filled(order, budget)) for name, order in bench.orders()]
            groups.append({"budget": title, "runs": runs})
        return {"model": Path(model).name, "text": text.name, "samples": options.samples, "length": bench.length,
                "groups": groups}  # fmt: skip


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", nargs=2, action="append", required=True, metavar=("MODEL", "TEXT"))
    parser.add_argument("--samples", type=int, default=32, help="calibration samples of 256 tokens [32]")
    parser.add_argument("--characters", type=int, default=150_000, help="how much of each text to use [150000]")
    parser.add_argument("--json", type=Path, default=RESULTS / "mixed.json", help="where the figures go [%(default)s]")
    options = parser.parse_args()
    save(options.json, [measure(model, Path(text), options) for model, text in options.model], ("torch",))


if __name__ == "__main__":
    main()
