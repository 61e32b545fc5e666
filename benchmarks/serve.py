#!/usr/bin/env python3
"""Compare `zoo serve` with llama.cpp's server: concurrent HTTP streams, interleaved rounds in one run.

    python benchmarks/serve.py build --cache DIR                                 both packages, not timed
    python benchmarks/serve.py run --cache DIR --out benchmarks/results/serve.json
    python benchmarks/pages.py serving                                           docs/serving.md from the results

Both serve the same random checkpoint (int8, against Q8_0) with the same threads and as many slots as there are streams,
and get the same prompts of token ids, none twice. Every stream asks again as soon as it is answered. Output throughput
is all tokens of all answers over the time from the first request to the last token; TTFT is from sending a request to
the first event with text. Client and server share the machine; the client is the same for both.
"""

import argparse
import asyncio
import contextlib
import json
import math
import random
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import date
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx2
import machine
import rounds
from backends import Site
from checkpoints import ensure
from peers import available, versions
from shapes import SHAPES

NAMES = ("zoo", "llama.cpp")


def package(cache: Path, shape: str, precision: str, name: str) -> Path:
    """Return where a program's package is."""
    return cache / "serve" / f"{shape}-random-{precision}" / name


def build(args: argparse.Namespace, sites: dict[str, Site]) -> None:
    """Build both packages where they are absent."""
    checkpoint = ensure(args.cache, args.shape, "random")
    for name in NAMES:
        out = package(args.cache, args.shape, args.precision, name)
        if not out.is_dir():
            out.parent.mkdir(parents=True, exist_ok=True)
            rounds.log(f"build {out.parent.name}/{name}")
            rounds.build_once(name, sites[name], checkpoint, out, args.precision)


@contextlib.contextmanager
def llama_server(site: Site, gguf: Path, args: argparse.Namespace, folder: Path) -> Iterator[tuple[str, str]]:
    """Run llama.cpp's server; yield its address and the model's name."""
    assert site.native is not None
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = args.streams * (args.prompt + args.new + 16)
    command = [
        str(site.native / "bin" / "llama-server"), "-m", str(gguf), "--host", "127.0.0.1", "--port", str(port),
        "-np", str(args.streams), "-c", str(context), "-t", str(args.threads), "-tb", str(args.threads),
        "--no-webui", *args.llama_options.split(),
    ]  # fmt: skip
    log = folder / "llama.log"
    with log.open("wb") as stream:
        process = subprocess.Popen(command, stdout=stream, stderr=stream, env=rounds.environment(site))
    url = f"http://127.0.0.1:{port}"
    try:
        end = time.monotonic() + 120
        while True:
            with contextlib.suppress(httpx2.TransportError):
                if httpx2.get(f"{url}/health").status_code == 200:
                    break
            if process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(rounds.failure(log.read_text(errors="replace")))
            time.sleep(0.1)
        yield url, "any"
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextlib.contextmanager
def zoo_server(folder_of_package: Path, args: argparse.Namespace, folder: Path) -> Iterator[tuple[str, str]]:
    """Run `zoo serve`; yield its address and the model's name."""
    command = [
        sys.executable, "-m", "zoo", "serve", str(folder_of_package), "--port", "0",
        "--slots", str(args.streams), "--threads", str(args.threads),
    ]  # fmt: skip
    log = folder / "zoo.jsonl"
    with log.open("wb") as stream:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stream, text=True)
    assert process.stdout is not None
    try:
        url = process.stdout.readline().strip()
        if not url:
            raise RuntimeError(log.read_text(errors="replace"))
        yield url, httpx2.get(f"{url}/v1/models").json()["data"][0]["id"]
    finally:
        process.terminate()
        process.wait(60)


async def answer(client: httpx2.AsyncClient, body: dict[str, Any]) -> dict[str, Any]:
    """Stream one completion; return when it was sent, when each text came, when it ended, and its tokens."""
    sent, times, tokens = time.perf_counter(), [], 0
    async with client.stream("POST", "/v1/completions", json=body) as response:
        response.raise_for_status()
        async for line in response.aiter_lines():
            if not line.startswith("data: {"):
                continue
            event = json.loads(line[6:])
            if any(choice.get("text") for choice in event.get("choices", ())):
                times.append(time.perf_counter())
            tokens = (event.get("usage") or {}).get("completion_tokens", tokens)
    return {"sent": sent, "times": times, "finished": time.perf_counter(), "tokens": tokens}


async def load(url: str, model: str, prompts: list[list[list[int]]], new: int) -> dict[str, Any]:
    """Send every stream's prompts, one after the other; measure throughput, TTFT and ITL."""
    answers: list[dict[str, Any]] = []
    fixed = {
        "model": model, "max_tokens": new, "temperature": 0, "ignore_eos": True,
        "stream": True, "stream_options": {"include_usage": True},
    }  # fmt: skip

    limits = httpx2.Limits(max_keepalive_connections=0)  # a server may close a connection just when it is used again
    async with httpx2.AsyncClient(base_url=url, timeout=300, limits=limits) as client:

        async def stream(mine: list[list[int]]) -> None:
            for prompt in mine:
                answers.append(await answer(client, {**fixed, "prompt": prompt}))

        await asyncio.gather(*(stream(mine) for mine in prompts))
    tokens = sum(each["tokens"] for each in answers)
    seconds = max(each["finished"] for each in answers) - min(each["sent"] for each in answers)
    return {
        "output_tok_s": tokens / seconds,
        "tokens": tokens,
        "seconds": seconds,
        "ttft_s": [each["times"][0] - each["sent"] for each in answers],
        "itl_s": [after - before for each in answers for before, after in pairwise(each["times"])],
    }


def draw(args: argparse.Namespace, seed: int) -> list[list[list[int]]]:
    """Make the prompts of a round: stream → requests → ids, none alike."""
    drawn, vocab = random.Random(seed), SHAPES[args.shape].vocab
    return [
        [[1, *(drawn.randrange(300, vocab) for _ in range(args.prompt - 1))] for _ in range(args.requests)]
        for _ in range(args.streams)
    ]


def run(args: argparse.Namespace, sites: dict[str, Site]) -> dict[str, Any]:
    """Measure in interleaved rounds: both servers stay loaded, and rest while the other works."""
    figures: dict[str, list[dict[str, Any]]] = {name: [] for name in NAMES}
    folders = {name: package(args.cache, args.shape, args.precision, name) for name in NAMES}
    with tempfile.TemporaryDirectory(prefix="zoo-serve-") as temporary, contextlib.ExitStack() as stack:
        here = Path(temporary)
        servers = {
            "zoo": stack.enter_context(zoo_server(folders["zoo"], args, here)),
            "llama.cpp": stack.enter_context(
                llama_server(sites["llama.cpp"], folders["llama.cpp"] / "model.gguf", args, here)
            ),
        }
        for url, model in servers.values():
            asyncio.run(load(url, model, [draw(args, 10**6)[0][:1]], 4))
        for number, name in rounds.order(list(NAMES), args.rounds):
            found = asyncio.run(load(*servers[name], draw(args, number), args.new))
            figures[name].append(found)
            worst = max(found["ttft_s"])
            rounds.log(f"round {number + 1}, {name}: {found['output_tok_s']:.1f} tok/s, TTFT up to {worst:.2f} s")
    return {
        "what": "streams", "date": date.today().isoformat(), "machine": machine.describe(), "shape": args.shape,
        "precision": args.precision, "streams": args.streams, "requests": args.requests, "prompt": args.prompt,
        "new": args.new, "threads": args.threads, "versions": versions(args.cache, sites), "figures": figures,
    }  # fmt: skip


def percentile(values: list[float], share: float) -> float:
    """Return the smallest value that a share of all do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, math.ceil(share * len(ordered)) - 1))]


def pooled(found: list[dict[str, Any]], key: str) -> list[float]:
    """Return a figure's values of all rounds."""
    return [value for one in found for value in one[key]]


def rows(result: dict[str, Any]) -> list[tuple[str, float, float, float]]:
    """Return the comparison: what was measured, zoo's figure, llama.cpp's, and how many times better zoo's is."""
    both = [result["figures"][name] for name in NAMES]
    mine, theirs = (statistics.median(one["output_tok_s"] for one in found) for found in both)
    table = [("output, tok/s (median of rounds)", mine, theirs, mine / theirs)]
    for key, text in (("ttft_s", "TTFT"), ("itl_s", "ITL")):
        for share, name in ((0.5, "median"), (0.99, "P99")):
            mine, theirs = (percentile(pooled(found, key), share) * 1e3 for found in both)
            table.append((f"{text}, {name}, ms", mine, theirs, theirs / mine))
    return table


def main() -> int:
    """Build or run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=("build", "run"))
    parser.add_argument("--cache", type=Path, default=Path(".bench"))
    parser.add_argument("--zoo-python", type=Path, default=Path(sys.executable))
    parser.add_argument("--shape", default="tinyllama-1.1b", choices=sorted(SHAPES))
    parser.add_argument("--precision", default="int8", choices=("int8", "int4"))
    parser.add_argument("--streams", type=int, default=8)
    parser.add_argument("--requests", type=int, default=2, help="requests of a stream, one after the other")
    parser.add_argument("--prompt", type=int, default=128)
    parser.add_argument("--new", type=int, default=64)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--llama-options", default="", help="further options of llama-server")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    args.cache = args.cache.resolve()
    sites, missing = available(args.cache, list(NAMES), args.zoo_python)
    if missing:
        raise SystemExit(f"missing: {missing}; set the peers up with benchmarks/peers.py")
    if args.action == "build":
        build(args, sites)
        return 0
    result = run(args, sites)
    for name, mine, theirs, times in rows(result):
        print(f"{name}: {mine:,.1f} against {theirs:,.1f}, {times:.2f} times")
    if args.out is not None:
        args.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
