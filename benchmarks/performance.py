#!/usr/bin/env python3
"""Measure how costs grow, each beside its physical limit, and write docs/performance.md.

    python benchmarks/performance.py                       everything, about a quarter of an hour; then the page
    python benchmarks/performance.py context zoos          some parts anew, the others as they were measured before
    python benchmarks/performance.py page                  the page alone

Figures are kept in benchmarks/results/performance.json.  Weights are random: speed and memory do not depend on them.
"""

import argparse
import json
import os
import shutil
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from pathlib import Path
from typing import Any

import disk
import machine
import numpy as np
import pages
from checkpoints import ensure
from measure import busy_seconds, measure, own_seconds
from performance_page import LARGE, LIMIT, MEASURED, PLANNED, SMALL
from rounds import failure, log

from zoo.engine.huge_pages import move
from zoo.engine.int8_cache import find_scales
from zoo.engine.session import Row, Session

ROOT = Path(__file__).resolve().parent.parent
RESULTS = pages.RESULTS / "performance.json"
CONTEXTS = (256, 1024, 4096, 8192, 16384, 32000)
STREAMS = (1, 2, 4, 8, 16, 32, 64)
ZOOS = (10, 100, 1000, 10_000)
FAMILY = """name: made{0}
title: Made {0}
licence: {{id: mit, name: MIT, url: "https://opensource.org/license/mit", commercial_use: true}}
model_type: llama
architecture: {{hidden_act: silu, vocab_size: 32000, max_position_embeddings: 2048, rms_norm_eps: 1.0e-5,
  hidden_size: 2048, intermediate_size: 5632, num_hidden_layers: 22, num_attention_heads: 32, rope_theta: 10000.0}}
models:
"""
MODEL = "  - {{name: made-{0}-{1}, title: Made {0} {1}, weights: {{hub: made/made-{0}-{1}}}}}\n"


def fastest(call: Callable[[], Any], repeats: int = 5) -> float:
    """Return the least of several times, seconds: what others take of the machine only adds."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return min(times)


def read_rate(threads: int) -> float:
    """Read 1 GiB by as many threads in several ways; return the fastest, bytes a second."""
    buffer = np.ones(2**28, np.float32)
    parts, integers = np.array_split(buffer, threads), np.array_split(buffer.view(np.int32), threads)
    ways = [(np.maximum.reduce, integers), (np.add.reduce, parts), (lambda part: np.dot(part, part), parts)]
    with ThreadPoolExecutor(threads) as pool:
        return max(buffer.nbytes / fastest(lambda way=way: list(pool.map(*way))) for way in ways)


def integer_rate(threads: int) -> float:
    """Multiply matrices of 8-bit integers by onnxruntime; return multiplications and additions a second."""
    import onnxruntime as ort
    from onnx import TensorProto, helper

    n = 2048
    a = helper.make_tensor_value_info("a", TensorProto.UINT8, [n, n])
    y = helper.make_tensor_value_info("y", TensorProto.INT32, [n, n])
    weights = helper.make_tensor("b", TensorProto.INT8, [n, n], np.ones((n, n), np.int8).tobytes(), raw=True)
    graph = helper.make_graph([helper.make_node("MatMulInteger", ["a", "b"], ["y"])], "g", [a], [y], [weights])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return 2 * n**3 / fastest(lambda: session.run(None, {"a": np.ones((n, n), np.uint8)}))


def limits(work: Path) -> dict[str, Any]:
    """Measure what the machine can do."""
    size = 2**29
    (work / "noise.safetensors").write_bytes(os.urandom(2**24) * (size // 2**24))
    found = {"threads": {str(n): {"read": read_rate(n), "integer": integer_rate(n)} for n in threads()},
             "disk_write": size / disk.write_seconds(work / "noise", size),
             "disk_read": size / disk.read_seconds(work)}  # fmt: skip
    (work / "noise.safetensors").unlink()
    return found


def threads() -> tuple[int, ...]:
    """List the numbers of threads that are measured."""
    return tuple(n for n in (1, 2) if n <= (os.cpu_count() or 1))


def package(work: Path, shape: str) -> Path:
    """Build a package of random weights unless it is there."""
    out = work / f"{shape}-int8"
    if not out.is_dir():
        zoo("build", ensure(work, shape, "random"), "-o", out)
    return out


def opened(work: Path, shape: str, threads: int | None = None, scales: Any = None) -> Session:
    """Open a package as the engine does, its weights in huge pages."""
    folder = package(work, shape)
    session = Session(folder, threads, scales=scales)
    move(session, folder / "model.onnx.data")
    return session


def zoo(*arguments: object, env: dict[str, str] | None = None) -> Any:
    """Run a command and return what it measured; raise RuntimeError where it fails."""
    command = ["timeout", str(LIMIT), sys.executable, "-m", "zoo", *map(str, arguments)]
    done = measure(command, {**os.environ, "HF_HUB_OFFLINE": "1", "ZOO_PREPACK": "never", **(env or {})})
    if done.code:
        raise RuntimeError(f"zoo {arguments[0]}: {failure(done.stderr or done.stdout)}")
    return done


def filled(session: Session, tokens: int, count: int = 1) -> Any:
    """Make caches that hold so many tokens of noise each."""
    slots = session.new_slots(count, min(session.context, tokens + 300))
    for buffer in slots.buffers:
        noise = np.random.default_rng(0).integers(-100, 100, buffer.shape[-2:])
        buffer[:] = noise if buffer.dtype == np.int8 else noise / np.float32(64)
    for held in slots.tokens:
        held[:] = [5] * tokens
    return slots


def step(session: Session, slots: Any, tokens: int = 1, repeats: int = 12) -> float:
    """Time a step that brings every slot on by some tokens, seconds."""

    def once() -> None:
        session.step(slots, [Row(slot, [7] * tokens) for slot in range(len(slots))])
        for slot in range(len(slots)):
            slots.keep(slot, len(slots.tokens[slot]) - tokens)

    once()
    return fastest(once, repeats)


def parameters(work: Path) -> dict[str, Any]:
    """Build, load and run packages of several sizes; larger ones are planned from headers alone."""
    found = {}
    for shape in (*MEASURED, *PLANNED):
        checkpoint = ensure(work, shape, "random" if shape in MEASURED else "sparse")
        plan = json.loads(zoo("build", checkpoint, "--dry-run", "--json", "-o", work / "none").stdout)
        row = {key: plan[key] for key in ("parameters", "read_bytes", "write_bytes", "peak_memory_bytes",
                                          "run_memory_bytes", "run_context")}  # fmt: skip
        if shape in MEASURED:
            built = zoo("build", checkpoint, "--force", "-o", package(work, shape))
            session = opened(work, shape)
            row |= {"build_s": built.wall, "build_peak": built.peak_rss, "load_s": session.load_seconds,
                    "prefill_s": step(session, filled(session, 0), 256, 3),
                    "decode_s": step(session, filled(session, 256))}  # fmt: skip
        found[shape] = row
        log(f"{shape}: {row}")
    return found


def context(work: Path) -> dict[str, Any]:
    """Time a step of one token, and one of a prompt's chunk, after more and more of them."""
    plain = opened(work, SMALL)
    found: dict[str, Any] = {"token_bytes": plain.token_bytes}
    for name, session in (("fp32", plain), ("int8", opened(work, SMALL, scales=find_scales(plain, None)))):
        for tokens in CONTEXTS:
            slots, chunk = filled(session, tokens), session.chunk(tokens)
            row = {"decode_s": step(session, slots, repeats=6), "chunk": chunk}
            row["chunk_s"] = step(session, slots, chunk, 1)
            found.setdefault(str(tokens), {})[name] = row
            log(f"{name} after {tokens}: {row}")
    return found


def streams(work: Path) -> dict[str, Any]:
    """Time a step of so many answers at once, each after 256 tokens."""
    session = opened(work, LARGE)
    return {str(count): step(session, filled(session, 256, count), repeats=5) for count in STREAMS}


def cores(work: Path) -> dict[str, Any]:
    """Time steps by one thread and by two, several times over."""
    found: dict[str, Any] = {}
    sessions = {count: opened(work, LARGE, count) for count in threads()}
    for _ in range(5):
        for count, session in sessions.items():
            row = found.setdefault(str(count), {"decode_s": [], "prefill_s": []})
            row["decode_s"].append(step(session, filled(session, 256), repeats=6))
            row["prefill_s"].append(step(session, filled(session, 0), 256, 1))
    return found


def zoos(work: Path) -> dict[str, Any]:
    """List, validate and draw zoos of more and more models, one hundred a family."""
    found: dict[str, Any] = {}
    for count in ZOOS:
        folder, row = work / "zoo", {}
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        for family in range(-(-count // 100)):
            models = "".join(MODEL.format(family, n) for n in range(min(100, count - 100 * family)))
            (folder / f"made{family}.yaml").write_text(FAMILY.format(family) + models)
        env = {"ZOO_PATH": str(folder), "ZOO_PLUGINS": ""}
        for name, command in {"list": ["list", "--json"], "validate": ["validate", folder],
                              "catalog": ["catalog", "-o", work / "pages"]}.items():  # fmt: skip
            try:
                done = zoo(*command, env=env)
                row |= {f"{name}_s": done.wall, f"{name}_rss": done.peak_rss}
            except RuntimeError as error:
                row[f"{name}_error"] = str(error)
        found[str(count)] = row
        log(f"{count} models: {row}")
    return found


PARTS: dict[str, Callable[[Path], dict[str, Any]]] = {
    "limits": limits, "parameters": parameters, "context": context, "streams": streams, "cores": cores, "zoos": zoos,
}  # fmt: skip


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", help=f"what is measured anew, of {', '.join(PARTS)}, page; all by default")
    parser.add_argument(
        "--cache", type=Path, default=ROOT / ".bench", help="folder of checkpoints and packages [.bench]"
    )
    args = parser.parse_args()
    if unknown := {*args.parts} - {*PARTS, "page"}:
        parser.error(f"unknown parts: {', '.join(sorted(unknown))}")
    (work := args.cache.resolve() / "performance").mkdir(parents=True, exist_ok=True)
    found = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}
    for name in args.parts or PARTS:
        if name != "page":
            start, busy = time.perf_counter(), busy_seconds() - own_seconds()
            found |= {name: PARTS[name](work), "machine": machine.describe(), "date": date.today().isoformat()}
            others = (busy_seconds() - own_seconds() - busy) / (time.perf_counter() - start) / (os.cpu_count() or 1)
            found.setdefault("others", {})[name] = max(0.0, others)
            RESULTS.write_text(json.dumps(found, indent=1) + "\n")
    pages.write("performance")


if __name__ == "__main__":
    main()
