"""Open a package in zoo's engine and say how long it took and what memory it holds then.

    zoo_load.py PACKAGE

Anonymous memory is what no file backs: it belongs to this process alone.  A token is generated before memory is read,
so that everything that a step needs is there.  Modules are imported before, as the peers' are.
"""

import json
import sys
import time
from pathlib import Path

import onnxruntime  # noqa: F401
import tokenizers  # noqa: F401

import zoo.api
import zoo.engine


def kilobytes(field: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == field:
            return int(value.split()[0])
    return 0


before = kilobytes("RssAnon")
start = time.perf_counter()
engine = zoo.open(sys.argv[1])
load = time.perf_counter() - start
start = time.perf_counter()
engine.generate([1, 400], max_new_tokens=1, ignore_eos=True)
first = time.perf_counter() - start
print(json.dumps({"load_s": load, "first_token_s": first, "anonymous_mb": (kilobytes("RssAnon") - before) * 1024 / 1e6,
                  "rss_mb": kilobytes("VmRSS") * 1024 / 1e6}))  # fmt: skip
