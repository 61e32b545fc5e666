"""Random schemas over random weights: ``python -m benchmarks.structured --count 10000`` from the repository's root.

Every answer that ends must be JSON that fits its schema; those that the longest answer cut are counted, and so are
schemas that were refused. Exits with 1 where one is wrong, or more than a tenth was refused.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests.engine.made import make_package
from tests.structured.answering import answers, tally


def main() -> int:
    """Run it; print what came out as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=100)
    asked = parser.parse_args()
    total: Counter[str] = Counter()
    wrong: list[str] = []
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as room:
        for at, kind in enumerate(("byte_level", "byte_fallback")):
            engine, _ = make_package(Path(room) / kind, kind, max_position_embeddings=512)
            for lookup in (False, True):
                part = answers(engine, asked.count // 4, asked.seed + 2 * at + lookup, lookup=lookup)
                counts, bad = tally(part)
                total += counts
                wrong += bad
    seconds = round(time.perf_counter() - started, 1)
    accepted = 1 - total["refused"] / max(1, sum(total.values()))
    print(json.dumps({**total, "accepted": round(accepted, 4), "wrong": len(wrong), "seconds": seconds}))
    for line in wrong[:20]:
        print(line, file=sys.stderr)
    return int(bool(wrong) or accepted < 0.9)


if __name__ == "__main__":
    sys.exit(main())
