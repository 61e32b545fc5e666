#!/usr/bin/env python3
"""Compare what zoo's and its peers' packages of a trained model predict with what the original weights predict.

    python benchmarks/quality.py --checkpoint plugins/tiny/zoo_tiny/checkpoint --text TEXT --precision int8 --out q.json

Every program builds the same weights and is fed the same token ids, teacher-forced; the reference is transformers in
float32.  The tokenizer beside the weights is replaced by a made-up one of the same size, which every converter knows:
ids are given, so it plays no part.
"""

import argparse
import json
import shutil
import subprocess
import sys
from datetime import date
from pathlib import Path
from typing import Any

import fidelity
import machine
import numpy as np
import tables
from backends import BACKENDS, PEERS, VARIANTS, Site
from backends.base import RUNNERS
from compare import available, listed, versions
from rounds import build_once, environment, failure, log
from tokenizer_files import write_tokenizer

WEIGHTS = ("config.json", "generation_config.json", "*.safetensors", "*.safetensors.index.json")


def copy_checkpoint(source: Path, out: Path) -> dict[str, Any]:
    """Copy the weights and put a made-up tokenizer beside them; return the configuration."""
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    for pattern in WEIGHTS:
        for path in source.glob(pattern):
            shutil.copy(path, out)
    config: dict[str, Any] = json.loads((out / "config.json").read_text())
    write_tokenizer(out, config["vocab_size"], config["max_position_embeddings"])
    return config


def token_windows(checkpoint: Path, text: Path, windows: int, length: int) -> np.ndarray:
    """Cut the start of a text into windows of `length` ids, each led by the bos token; int64 [windows, length]."""
    from tokenizers import Tokenizer

    ids = Tokenizer.from_file(str(checkpoint / "tokenizer.json")).encode(text.read_text(), add_special_tokens=False).ids
    count = min(windows, len(ids) // (length - 1))
    if not count:
        raise SystemExit(f"{text} has fewer than {length - 1} tokens")
    bos = json.loads((checkpoint / "config.json").read_text()).get("bos_token_id", 1)
    body = np.array(ids[: count * (length - 1)], np.int64).reshape(count, length - 1)
    return np.concatenate([np.full((count, 1), bos, np.int64), body], axis=1)


def logits(command: list[str], out: Path, site: Site) -> fidelity.Logits:
    """Run a command that writes logits to `out` and return them; raise RuntimeError where it fails."""
    done = subprocess.run(command, capture_output=True, text=True, env=environment(site))
    if done.returncode:
        raise RuntimeError(failure(done.stderr or done.stdout))
    return np.asarray(np.load(out), np.float32)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, default=Path(".bench"), help="folder of the peers [.bench]")
    parser.add_argument("--checkpoint", type=Path, required=True, help="a trained Llama checkpoint with tokenizer.json")
    parser.add_argument("--name", default="zoo-tiny", help="what to call the model in the results")
    parser.add_argument("--text", type=Path, required=True, help="a text that the model was not trained on")
    parser.add_argument("--precision", choices=["int8", "int4"], default="int8")
    parser.add_argument("--peers", type=listed(["zoo", *PEERS]), default="all", help="comma-separated, zoo too")
    parser.add_argument("--windows", type=int, default=4)
    parser.add_argument("--length", type=int, default=192, help="tokens in a window")
    parser.add_argument("--zoo-python", type=Path, default=Path(sys.executable), help="an interpreter with zoo[verify]")
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    args = parser.parse_args()
    cache = args.cache.resolve()
    found, missing = available(cache, args.peers, args.zoo_python)
    if "zoo" in found:
        found |= {name: found["zoo"] for name, one in VARIANTS.items() if args.precision in one.formats}
    work = cache / "quality"
    checkpoint = work / "checkpoint"
    copy_checkpoint(args.checkpoint, checkpoint)
    tokens = token_windows(args.checkpoint, args.text, args.windows, args.length)
    np.save(work / "tokens.npy", tokens)
    files = [str(work / "tokens.npy"), str(work / "logits.npy")]
    original = [str(args.zoo_python), str(RUNNERS / "logits_reference.py"), str(checkpoint), *files]
    reference = logits(original, work / "logits.npy", Site(args.zoo_python, cache))
    figures: dict[str, dict[str, list[float]]] = {}
    for name, site in found.items():
        backend, package = BACKENDS[name], work / name
        try:
            built = build_once(name, site, checkpoint, package, args.precision)
            (work / "logits.npy").unlink(missing_ok=True)
            got = logits(backend.logits(site, package, *files), work / "logits.npy", site)
            row = {**fidelity.fidelity(reference, got, tokens), "package_mb": built["package_mb"]}
        except (RuntimeError, OSError, ValueError) as error:
            missing[name] = str(error)
            log(f"{name}: failed: {error}")
            continue
        figures[name] = {key: [value] for key, value in row.items()}
        log(f"{name}: " + ", ".join(f"{key} {value:.4g}" for key, value in row.items()))
    result = {
        "kind": "quality", "date": date.today().isoformat(), "machine": machine.describe(),
        "versions": versions(cache, found),
        "formats": {name: BACKENDS[name].formats[args.precision] for name in figures},
        "settings": {"model": args.name, "precision": args.precision, "windows": len(tokens), "length": args.length},
        "quality": figures, "errors": {"quality": missing},
    }  # fmt: skip
    shutil.rmtree(work, ignore_errors=True)
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps(result, indent=1) + "\n")
    print("\n".join(tables.quality(result)))


if __name__ == "__main__":
    main()
