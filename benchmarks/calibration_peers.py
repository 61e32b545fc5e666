#!/usr/bin/env python3
"""Hold this project's GPTQ against maintained ones: same model, same samples, same blocks, one measure.

    python benchmarks/calibration_peers.py setup --cache DIR [--only NAME]...
    python benchmarks/calibration_peers.py run --cache DIR --model MODEL TEXT [--json FILE]

Each peer lives in a virtual environment of its own under DIR and quantizes the layers' linears to 4 bits, symmetric;
head and embedding stay floats on both sides.  What the weights then stand for is computed in float32 and held against
the original weights, on text that gave no samples (see calibration.py).
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import venv
from pathlib import Path
from typing import Any

import numpy as np
from calibration import RESULTS, SHARE, WINDOW, FloatModel, in_float, save, windows
from peers import CONSTRAINTS, log, reason

import zoo
from zoo.plugins import host
from zoo.stages.calibrate import calibrated
from zoo.stages.resolve import Request, resolve

PEERS = {"llmcompressor": ("torch", "llmcompressor"), "gptqmodel": ("torch", "gptqmodel")}
"""Peer → what pip installs for it; runners/gptq_PEER.py quantizes with it."""
RUNNERS = Path(__file__).resolve().parent / "runners"
KEEP = {"embed_tokens": "fp32", "lm_head": "fp32"}
OURS: dict[str, dict[str, Any]] = {
    "zoo, rtn": {"quantizer": "rtn"},
    "zoo, gptq": {"quantizer": "gptq"},
}


def python_of(cache: Path, peer: str) -> Path:
    """Name a peer's interpreter."""
    return cache / peer / "venv" / "bin" / "python"


def setup(cache: Path, names: list[str]) -> bool:
    """Install peers; say why one could not be."""
    good = True
    for name in names:
        python = python_of(cache, name)
        try:
            if not python.is_file():
                venv.create(python.parent.parent, with_pip=True)
            constraints = cache / "constraints.txt"
            constraints.write_text(CONSTRAINTS)
            command = [str(python), "-m", "pip", "install", "-q", "-c", str(constraints), *PEERS[name]]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
            log(f"{name}: ready")
        except (subprocess.CalledProcessError, OSError) as error:
            log(f"{name}: {reason(error)}")
            good = False
    return good


class Bench:
    """One model, its text, and the original's predictions."""

    def __init__(self, model: str, text: Path, options: argparse.Namespace, work: Path) -> None:
        whole = text.read_text(encoding="utf-8")[: options.characters]
        cut = whole.index("\n", int(len(whole) * SHARE))
        self.model, self.options, self.work = model, options, work
        self.samples = work / "calibration.txt"
        self.samples.write_text(whole[:cut], encoding="utf-8")
        self.resolved = resolve(host().registry, Request(model))
        assert self.resolved.checkpoint is not None
        folder = self.resolved.checkpoint.folder
        assert folder is not None
        self.folder = folder
        self.length = min(WINDOW, self.resolved.recipe.architecture.max_position_embeddings)
        self.texts = windows(self.folder, whole[cut:], self.length)
        original = FloatModel(self.resolved.recipe, self.resolved.checkpoint, None)
        self.references = [original.logits(ids).log_softmax(-1) for ids in self.texts]

    def loss(self, model: FloatModel) -> dict[str, float]:
        """Measure a model."""
        found = in_float(model, self.texts, self.references)
        return {"kl": found.kl, "perplexity": found.perplexity}

    def ours(self, block: int, seed: int, more: dict[str, Any]) -> dict[str, float]:
        """Build with one of this project's quantizers."""
        settings = {"block_size": block, "symmetric": True, "keep": KEEP, **more}
        quantizer = settings.pop("quantizer")
        data: dict[str, Any] = {}
        if quantizer != "rtn":
            data = {"calibration": self.samples, "samples": self.options.samples, "sequence_length": self.length}
        out = self.work / "package"
        package = zoo.build(
            self.model, "int4", output=out, force=True, quantizer=quantizer, quantizer_options=settings, seed=seed,
            **data,
        )  # fmt: skip
        return self.loss(FloatModel(package.manifest.recipe, self.resolved.checkpoint, out))

    def peers(self, name: str, block: int, seed: int) -> dict[str, Any]:
        """Let a peer quantize on the very same tokens, and open what it saved as a checkpoint."""
        request = Request(
            self.model, "int4", quantizer="gptq", calibration=str(self.samples), samples=self.options.samples,
            sequence_length=self.length, seed=seed,
        )  # fmt: skip
        _, tokens = calibrated(host().registry, request, resolve(host().registry, request))
        assert tokens is not None
        np.save(self.work / "tokens.npy", tokens)
        out = self.work / "peer"
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir()
        for one in ("config.json", "tokenizer.json"):
            shutil.copy(self.folder / one, out / one)
        command = [
            str(python_of(self.options.cache, name)), str(RUNNERS / f"gptq_{name}.py"), str(self.folder),
            str(self.work / "tokens.npy"), str(out), "4", str(block),
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(done.stderr.strip().splitlines()[-1] if done.stderr.strip() else f"{name} failed")
        versions = json.loads([line for line in done.stdout.splitlines() if line.startswith('{"versions"')][-1])
        opened = resolve(host().registry, Request(str(out)))
        return {**self.loss(FloatModel(opened.recipe, opened.checkpoint, None)), **versions}


def measure(model: str, text: Path, options: argparse.Namespace, keep: Any) -> dict[str, Any]:
    """Measure every implementation; hand over what is there after each."""
    with tempfile.TemporaryDirectory() as work:
        bench = Bench(model, text, options, Path(work))
        result: dict[str, Any] = {
            "model": Path(model).name, "text": text.name, "samples": options.samples, "length": bench.length,
            "tokens": sum(len(one) - 1 for one in bench.texts), "runs": [],
        }  # fmt: skip
        names = [one for one in PEERS if python_of(options.cache, one).exists()]
        for block in options.block:
            for seed in range(options.seeds):
                todo = [(label, None) for label in OURS if seed == 0 or OURS[label]["quantizer"] != "rtn"]
                for label, peer in [*todo, *((one, one) for one in names)]:
                    try:
                        found = bench.peers(peer, block, seed) if peer else bench.ours(block, seed, dict(OURS[label]))
                    except (RuntimeError, IndexError, OSError) as error:
                        log(f"{label}: {error}")
                        continue
                    run = {"block": block, "seed": seed, "name": label, **found}
                    log(json.dumps(run))
                    result["runs"].append(run)
                    keep(result)
    return result


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=["setup", "run"])
    parser.add_argument("--cache", type=Path, default=Path(".bench"), help="folder for the peers [.bench]")
    parser.add_argument("--only", action="append", choices=list(PEERS), help="one peer; may be repeated")
    parser.add_argument("--model", nargs=2, action="append", default=[], metavar=("MODEL", "TEXT"))
    parser.add_argument("--block", type=int, action="append", help="block sizes [32]; may be repeated")
    parser.add_argument("--seeds", type=int, default=3, help="draws of the samples [3]")
    parser.add_argument("--samples", type=int, default=32, help="calibration samples of 256 tokens [32]")
    parser.add_argument("--characters", type=int, default=150_000, help="how much of each text to use [150000]")
    parser.add_argument("--json", type=Path, default=RESULTS / "peers.json", help="where the figures go [%(default)s]")
    options = parser.parse_args()
    options.cache, options.block = options.cache.absolute(), options.block or [32]
    if options.action == "setup":
        options.cache.mkdir(parents=True, exist_ok=True)
        sys.exit(0 if setup(options.cache, options.only or list(PEERS)) else 1)
    results: list[dict[str, Any]] = []
    for model, text in options.model:
        results.append({})

        def keep(found: dict[str, Any]) -> None:
            results[-1] = found
            save(options.json, results, ("torch",))

        measure(model, Path(text), options, keep)


if __name__ == "__main__":
    main()
