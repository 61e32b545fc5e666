#!/usr/bin/env python3
"""Offer a server ten times what it can carry: it must not fall, finish what it takes, and refuse the rest with 429.

    python benchmarks/serve_overload.py --seconds 60 [--nice 10] [--out benchmarks/results/serve-overload.json]

First as many clients as there are slots say how many requests a second the server carries. Then requests come at ten
times that rate, whatever becomes of them. Every accepted answer is held against the engine alone.
"""

import argparse
import asyncio
import json
import tempfile
import time
from collections import Counter
from datetime import date
from pathlib import Path
from typing import Any

import machine
import serving
import sse

PROMPTS = ("Once upon a time", "The sky is blue. The grass is", "My dog likes to", "In the morning the bird")
TOKENS = 48


def body(index: int) -> dict[str, Any]:
    """Make the request of a number."""
    return {
        "model": "zoo-tiny", "prompt": PROMPTS[index % len(PROMPTS)], "max_tokens": TOKENS, "temperature": 0,
        "ignore_eos": True, "stream": index % 2 == 0,
    }  # fmt: skip


async def capacity(url: str, slots: int, seconds: float) -> float:
    """Measure how many requests a second finish when every slot always has one."""
    end, done = time.monotonic() + seconds, 0

    async def client(index: int) -> None:
        nonlocal done
        while time.monotonic() < end:
            answer = await sse.post(url, "/v1/completions", body(index))
            assert answer.status == 200
            done += 1

    await asyncio.gather(*(client(index) for index in range(slots)))
    return done / seconds


class Overload:
    """Requests at a rate, and what became of them."""

    def __init__(self, server: serving.Server, wanted: dict[str, str]) -> None:
        self.server, self.wanted = server, wanted
        self.statuses: Counter[str] = Counter()
        self.latencies: list[float] = []
        self.waits: list[int] = []
        self.wrong: list[Any] = []
        self.peak = 0

    async def run(self, rate: float, seconds: float) -> None:
        """Send at a rate for a time; wait for every answer."""
        tasks: set[asyncio.Task[None]] = set()
        started, sent = time.monotonic(), 0
        while (now := time.monotonic() - started) < seconds:
            while sent < now * rate:
                tasks.add(asyncio.create_task(self.one(sent)))
                sent += 1
            self.peak = max(self.peak, self.server.rss())
            tasks = {task for task in tasks if not task.done()}
            await asyncio.sleep(0.005)
        await asyncio.gather(*tasks)
        self.statuses["offered"] = sent

    async def one(self, index: int) -> None:
        """Send one request and sort its answer."""
        asked = body(index)
        try:
            answer = await sse.post(self.server.url, "/v1/completions", asked, limit=120)
        except Exception as error:
            self.statuses[type(error).__name__] += 1
            return
        self.statuses[str(answer.status)] += 1
        if answer.status == 429:
            self.waits.append(int(answer.headers["retry-after"]))
        elif answer.status == 200:
            self.latencies.append(answer.finished - answer.sent)
            if not answer.whole or answer.texts() != {0: self.wanted[asked["prompt"]]}:
                self.wrong.append([asked["prompt"], answer.whole, answer.texts()])


def main() -> int:
    """Run it; exit code 1 where anything but 200 and 429 came, or an answer was wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--times", type=float, default=10)
    parser.add_argument("--slots", type=int, default=4)
    parser.add_argument("--queue", type=int, default=8)
    parser.add_argument("--nice", type=int, default=0)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    serving.low_priority(options.nice)
    import zoo

    with tempfile.TemporaryDirectory(prefix="zoo-overload-") as folder:
        here = Path(folder)
        package = serving.build_tiny(here, "fp32")
        alone = zoo.open(package)
        wanted = {one: alone.generate(one, max_new_tokens=TOKENS, ignore_eos=True).text for one in PROMPTS}
        server = serving.Server(
            [package], here / "log.jsonl", "--slots", options.slots, "--queue", options.queue, "--threads", 1
        )
        try:
            asyncio.run(capacity(server.url, options.slots, 1))  # loads the model
            carried = asyncio.run(capacity(server.url, options.slots, min(10.0, options.seconds / 3)))
            before = server.rss()
            load = Overload(server, wanted)
            asyncio.run(load.run(options.times * carried, options.seconds))
            idle = serving.wait_idle(server.url)
            after = asyncio.run(capacity(server.url, options.slots, 2))
            code = server.stop()
            errors = server.events("error")
        finally:
            server.kill()
    ordered = sorted(load.latencies)
    result = {
        "what": "overload", "date": date.today().isoformat(), "machine": machine.describe(),
        "seconds": options.seconds, "slots": options.slots, "queue": options.queue,
        "carried_per_s": round(carried, 1), "offered_per_s": round(options.times * carried, 1),
        "statuses": dict(load.statuses), "finished_per_s": round(len(ordered) / options.seconds, 1),
        "accepted_latency_s": {
            "median": round(ordered[len(ordered) // 2], 3), "p99": round(ordered[int(len(ordered) * 0.99)], 3),
            "worst": round(ordered[-1], 3),
        },
        "retry_after_s": [min(load.waits, default=0), max(load.waits, default=0)],
        "wrong": load.wrong[:10], "wrong_count": len(load.wrong), "server_errors": errors[:5],
        "rss_before": before, "rss_peak": load.peak, "carried_after_per_s": round(after, 1),
        "idle_at_the_end": not idle["zoo_requests_running"] and not idle["zoo_requests_waiting"], "exit_code": code,
    }  # fmt: skip
    print(json.dumps(result, indent=1))
    if options.out is not None:
        options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    good = set(load.statuses) <= {"offered", "200", "429"} and not load.wrong and not errors
    return 0 if good and load.statuses["429"] and result["idle_at_the_end"] and code == 0 else 1


if __name__ == "__main__":
    raise SystemExit(main())
