"""Time loading, prefill and decode of a package in zoo's own engine.

    zoo_runner.py PACKAGE PROMPT NEW REPEATS THREADS VOCAB

The first of REPEATS + 1 generations is not counted: where long prompts have a graph of their own, it opens that.
Prefill ends with the first new token; decode is the tokens after it.
"""

import json
import random
import sys
import time
from collections.abc import Iterator
from typing import Any

import onnxruntime  # noqa: F401  modules are imported before loading is timed, as the peers' are
import psutil

import zoo.api
import zoo.engine

package, (prompt, new, repeats, _, vocab) = sys.argv[1], map(int, sys.argv[2:7])


def tokens(engine: Any, ids: list[int]) -> Iterator[Any]:
    """Generate greedily, token by token, past any end token: the one place that knows the engine's interface."""
    pieces = engine.stream(ids, max_new_tokens=new, ignore_eos=True)
    yield from (piece for piece in pieces if piece.token_id is not None)


start = time.perf_counter()
engine = zoo.open(package)
load = time.perf_counter() - start
prefill, decode = [], []
for seed in range(repeats + 1):
    ids = random.Random(seed).choices(range(300, vocab), k=prompt)
    start = time.perf_counter()
    times = [time.perf_counter() for _ in tokens(engine, ids)]
    if len(times) != new:
        raise SystemExit(f"{len(times)} new tokens instead of {new}")
    prefill.append(prompt / (times[0] - start))
    decode.append((new - 1) / (times[-1] - times[0]))
rss = psutil.Process().memory_info().rss / 1e6
print(json.dumps({"load_s": load, "prefill_tok_s": prefill[1:], "decode_tok_s": decode[1:], "rss_mb": rss}))
