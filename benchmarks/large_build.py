#!/usr/bin/env python3
"""Build a checkpoint of a size that few machines could hold, and compare the build with the bare disk.

    python benchmarks/large_build.py --shape llama-33b --precision int8 --out 33b.json
    python benchmarks/large_build.py --shape llama2-70b --precision int4 --out 70b.json
    python benchmarks/large_build.py --input Q8_0 --out 33b-q8_0.json        from a GGUF file
    python benchmarks/large_build.py --input gptq --precision int4 --out 33b-gptq.json

The checkpoint is sparse, so it costs no disk; the package does (half or a quarter of the fp16 size) and is deleted.
W writes as many bytes as the package has from memory, in 16 MB blocks and with fsync, before and after the build; R
reads each input once, its pages dropped from the cache beforehand, as they are before the build.  --no-disk measures
neither: how much memory a build takes can be seen on a busy machine, how long it takes cannot.
"""

import argparse
import json
import shutil
import statistics
import sys
from datetime import date
from pathlib import Path
from typing import Any

import disk
import machine
import peers
from backends import BACKENDS, Site
from checkpoints import ensure
from measure import folder_bytes, measure
from rounds import environment, failure, log
from shapes import SHAPES


def one_round(
    site: Site, checkpoint: Path, work: Path, args: argparse.Namespace, written: int | None
) -> dict[str, Any]:
    """Measure W, R, the build and W again; `written` is the package's size where an earlier round found it."""
    out, precision = work / "package", args.precision
    shutil.rmtree(out, ignore_errors=True)
    write = [disk.write_seconds(work / "noise", written)] if written and not args.no_disk else []
    inputs = checkpoint if checkpoint.is_dir() else checkpoint.parent
    read = None if args.no_disk else disk.read_seconds(inputs, "model*")
    disk.drop(inputs)
    try:
        done = measure(BACKENDS["zoo"].build(site, checkpoint, out, precision)[0], environment(site))
        if done.code:
            raise SystemExit(f"the build failed: {failure(done.stderr or done.stdout)}")
        size = folder_bytes(out)
    finally:
        shutil.rmtree(out, ignore_errors=True)
    row = {"wall_s": done.wall, "cpu_s": done.cpu, "peak_rss_mb": done.peak_rss / 1e6, "package_gb": size / 1e9,
           "others_cpu": done.others}  # fmt: skip
    if read is not None:
        write.append(disk.write_seconds(work / "noise", size))
        row |= {"write_s": statistics.mean(write), "read_s": read}
        row["ratio"] = row["wall_s"] / (row["write_s"] + row["read_s"])
    log(", ".join(f"{key} {value:.2f}" for key, value in row.items()))
    return row


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, default=Path(".bench"), help="folder to work in [.bench]")
    parser.add_argument("--shape", choices=SHAPES, default="llama-33b")
    parser.add_argument("--precision", choices=["int8", "int4"], default="int8")
    parser.add_argument("--input", default="float16", help="float16, gptq, or a type of GGUF [float16]")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--no-disk", action="store_true", help="leave W and R out: for the memory, on a busy machine")
    parser.add_argument("--zoo-python", type=Path, default=Path(sys.executable), help="an interpreter that has zoo")
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    args = parser.parse_args()
    cache = args.cache.resolve()
    site = Site(args.zoo_python, cache / "zoo")
    checkpoint = ensure(cache, args.shape, "sparse", args.input)
    work = cache / "large"
    work.mkdir(parents=True, exist_ok=True)
    parameters = SHAPES[args.shape].parameters()
    need = parameters * {"int8": 1.1, "int4": 0.65}[args.precision]
    if shutil.disk_usage(work).free < need:
        raise SystemExit(f"{work} has less than the {need / 1e9:.0f} GB free that the package needs")
    rows: list[dict[str, float]] = []
    for _ in range(args.rounds):
        written = round(rows[-1]["package_gb"] * 1e9) if rows else None
        rows.append(one_round(site, checkpoint, work, args, written))
    shutil.rmtree(work, ignore_errors=True)
    result: dict[str, Any] = {
        "kind": "large_build", "date": date.today().isoformat(), "machine": machine.describe(),
        "versions": {"zoo": peers.versions_of(site.python, BACKENDS["zoo"].versions)},
        "settings": {"shape": args.shape, "precision": args.precision, "parameters": parameters,
                     "input": args.input, "input_gb": folder_bytes(checkpoint) / 1e9, "rounds": args.rounds},
        "build": {key: [row[key] for row in rows] for key in rows[0]},
    }  # fmt: skip
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result["build"]))


if __name__ == "__main__":
    main()
