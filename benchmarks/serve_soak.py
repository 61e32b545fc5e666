#!/usr/bin/env python3
"""Load a server for a long time with all that happens to servers, and see that it stays as it was.

    python benchmarks/serve_soak.py --minutes 30 [--nice 10] [--out benchmarks/results/serve-soak.json]

Twelve clients ask for completions and chats, whole and streamed, greedy and sampled, with several choices, stops and
log probabilities; some leave in the middle, some read slowly or not at all, some send what is wrong. Every answer is
held against the engine alone. At the end: no place taken, every slot works, resident memory no larger than after the
first minutes, and SIGTERM ends it.
"""

import argparse
import asyncio
import contextlib
import json
import random
import statistics
import tempfile
import time
from collections import Counter
from datetime import date
from pathlib import Path
from typing import Any

import machine
import serving
import sse

PROMPTS = (
    "Once upon a time", "The sky is blue. The grass is", "The opposite of hot is", "My dog likes to", "She said",
    "In the morning the bird", "The farmer went to the market and bought", "One day a little girl", "The moon",
    "A bee and a horse met at the farm. The bee said", "It was raining, so", "The king had three sons. The first",
)  # fmt: skip
QUESTIONS = ("Who are you?", "Hi", "What is the opposite of big?", "Tell me a story about a cat.")
BAD = (
    (b"{", 400), (b"", 400), (b'{"model": "zoo-tiny-fp32"}', 400), (b"[" * 5000, 400),
    ({"model": "zoo-tin", "prompt": "a"}, 404), ({"model": "zoo-tiny-fp32", "prompt": "a", "max_tokens": -1}, 400),
    ({"model": "zoo-tiny-fp32", "prompt": "a", "n": 10**9}, 400),
    ({"model": "zoo-tiny-fp32", "prompt": "word " * 3000, "max_tokens": 5}, 400),
    ({"model": "zoo-tiny-fp32", "prompt": "a", "stop": ["x"] * 4000}, 400), (b" " * 5_000_000, 413),
    ({"model": "zoo-tiny-fp32", "prompt": [-1]}, 400), ({"model": "zoo-tiny-fp32", "prompt": "a", "top_p": 7}, 400),
)  # fmt: skip
KINDS = {"plain": 58, "leave": 14, "slow": 6, "deaf": 2, "bad": 16, "half": 4}
"""What a client does next, by weight."""
CLIENTS = 12


class Expected:
    """The engine alone: what the answer to each request must be."""

    def __init__(self, folders: dict[str, Path]) -> None:
        import zoo

        self._engines = {name: zoo.open(folder) for name, folder in folders.items()}
        self._known: dict[str, list[str]] = {}
        self._effects: dict[str, float] = {}

    def texts(self, model: str, body: dict[str, Any]) -> list[str]:
        """Return the text of each choice."""
        key = json.dumps([model, body], sort_keys=True)
        if key not in self._known:
            self._known[key] = [self._generate(model, body, choice).text for choice in range(body.get("n", 1))]
        return self._known[key]

    def _generate(self, model: str, body: dict[str, Any], choice: int) -> Any:
        options: dict[str, Any] = {
            "max_new_tokens": body["max_tokens"], "temperature": body["temperature"],
            "top_p": body.get("top_p", 1.0), "stop": body.get("stop", ()),
            "seed": body["seed"] + choice if "seed" in body else None,
        }  # fmt: skip
        if "messages" in body:
            return self._engines[model].generate(messages=body["messages"], **options)
        return self._engines[model].generate(body["prompt"], **options)

    def is_tie(self, model: str, body: dict[str, Any], found: str) -> bool:
        """Tell whether a greedy answer parts from the engine's where the two best tokens lie closer than a batch moves
        them: then either is right.
        """
        if body["temperature"]:
            return False
        import numpy as np

        engine = self._engines[model]
        if model not in self._effects:
            self._effects[model] = engine.batching_effect
        generation = self._generate(model, body, 0)
        at = 0
        for index in range(len(generation.token_ids)):
            if not found.startswith(engine.tokenizer.decode(generation.token_ids[: index + 1])[:-1]):
                break
            at = index + 1
        for index in range(max(0, at - 2), min(len(generation.token_ids), at + 2)):
            logits = engine.logits([*generation.prompt_ids, *generation.token_ids[:index]], 1)[0]
            best = np.sort(logits)[-2:]
            if float(best[1] - best[0]) <= 2 * self._effects[model]:
                return True
        return False


def draw(random: random.Random) -> tuple[str, str, dict[str, Any]]:
    """Make up a request: model, path and body without `model` and `stream`."""
    model = "zoo-tiny-fp32" if random.random() < 0.7 else "zoo-tiny-int8"
    chat = random.random() < 0.3
    body: dict[str, Any] = {"max_tokens": random.choice((4, 12, 24, 48, 90)), "temperature": 0}
    if chat:
        body["messages"] = [{"role": "user", "content": random.choice(QUESTIONS)}]
    else:
        body["prompt"] = random.choice(PROMPTS) * random.choice((1, 1, 1, 3))
    if model.endswith("fp32") and random.random() < 0.3:
        body |= {"temperature": random.choice((0.7, 1.2)), "seed": random.randrange(4)}
    if random.random() < 0.15:
        body["n"] = random.choice((2, 3))
    if random.random() < 0.15:
        body["stop"] = random.sample((".", "the", " and", "\n", "bee"), 2)
    return model, "/v1/chat/completions" if chat else "/v1/completions", body


class Soak:
    """The load and what came of it."""

    def __init__(self, server: serving.Server, expected: Expected, seconds: float, seed: int) -> None:
        self.server, self.expected = server, expected
        self.end = time.monotonic() + seconds
        self.random = random.Random(seed)
        self.done: Counter[str] = Counter()
        self.wrong: list[Any] = []
        self.samples: list[dict[str, Any]] = []

    async def run(self) -> None:
        """Run every client to the end of the time."""
        watcher = asyncio.create_task(self.watch())
        await asyncio.gather(*(self.client() for _ in range(CLIENTS)))
        watcher.cancel()

    async def watch(self) -> None:
        """Note the server's memory every few seconds."""
        started = time.monotonic()
        while True:
            seconds = round(time.monotonic() - started, 1)
            self.samples.append({"s": seconds, "rss": self.server.rss(), **self.server.counts()})
            await asyncio.sleep(5)

    async def client(self) -> None:
        """Do one thing after another."""
        kinds, weights = list(KINDS), list(KINDS.values())
        while time.monotonic() < self.end:
            kind = self.random.choices(kinds, weights)[0]
            try:
                await getattr(self, kind)()
                self.done[kind] += 1
            except Exception as error:
                self.wrong.append([kind, type(error).__name__, str(error)[:300]])
                await asyncio.sleep(0.5)

    def check(self, model: str, body: dict[str, Any], answer: sse.Answer) -> None:
        """Hold an answer against the engine alone."""
        if answer.status == 429:
            self.done["429"] += 1
            return
        wanted = self.expected.texts(model, body)
        texts = answer.texts()
        found = [texts.get(index, "") for index in range(len(wanted))]
        if answer.status != 200 or not answer.whole or len(answer.finishes()) != len(wanted):
            self.wrong.append([model, body, answer.status, answer.whole, found])
            return
        for one, other in zip(found, wanted, strict=True):
            self.done["answers"] += 1
            if one != other:
                if self.expected.is_tie(model, body, one):
                    self.done["ties"] += 1
                else:
                    self.wrong.append([model, body, one, other])

    async def plain(self) -> None:
        """Ask and compare."""
        model, path, body = draw(self.random)
        extra: dict[str, Any] = {"stream": self.random.random() < 0.6}
        if self.random.random() < 0.2:
            extra["logprobs"] = True if "messages" in body else 3
        self.check(model, body, await sse.post(self.server.url, path, body | extra | {"model": model}))

    async def leave(self) -> None:
        """Ask and go away in the middle."""
        model, path, body = draw(self.random)
        body |= {"model": model, "max_tokens": 200, "stream": self.random.random() < 0.7}
        after = self.random.randrange(1, 20)
        with contextlib.suppress(TimeoutError):
            await sse.post(
                self.server.url,
                path,
                body,
                limit=self.random.random() * 0.6,
                on_event=lambda answer: len(answer.events) >= after,
            )

    async def slow(self) -> None:
        """Ask, and read a little at a time."""
        model, path, body = draw(self.random)
        reader, writer = await sse.connect(self.server.url, 4096)
        raw = json.dumps(body | {"model": model, "stream": True}).encode()
        writer.write(sse.request(self.server.url, path, raw))
        held = asyncio.StreamReader(limit=2**24)
        answer = sse.Answer()
        task = asyncio.create_task(sse.read_answer(held, answer))
        try:
            while part := await reader.read(512):
                held.feed_data(part)
                await asyncio.sleep(0.02)
            held.feed_eof()
            await task
        finally:
            task.cancel()
            writer.close()
        self.check(model, body, answer)

    async def deaf(self) -> None:
        """Ask for much, read nothing, and go away after a while."""
        _, writer = await sse.connect(self.server.url, 4096)
        body = {
            "model": "zoo-tiny-fp32", "prompt": "Once", "max_tokens": 300, "n": 2, "logprobs": 20, "stream": True,
            "ignore_eos": True,
        }  # fmt: skip
        writer.write(sse.request(self.server.url, "/v1/completions", json.dumps(body).encode()))
        await asyncio.sleep(self.random.random() * 8)
        writer.transport.abort()

    async def bad(self) -> None:
        """Send what is wrong, and expect to be told."""
        body, status = self.random.choice(BAD)
        answer = await sse.post(self.server.url, "/v1/completions", body)
        if answer.status != status or set(answer.body) != {"error"}:
            self.wrong.append([str(body)[:100], answer.status, status])

    async def half(self) -> None:
        """Send half a request and go away."""
        _, writer = await sse.connect(self.server.url)
        raw = sse.request(self.server.url, "/v1/completions", b'{"model": "zoo-tiny-fp32", "prompt": "a"}')
        writer.write(raw[: self.random.randrange(len(raw))])
        with contextlib.suppress(ConnectionError):
            await writer.drain()
        await asyncio.sleep(self.random.random())
        writer.close()


def memory(samples: list[dict[str, Any]]) -> dict[str, float]:
    """Compare resident memory of the beginning, past a warm-up of a tenth, with the end; bytes and their ratio."""
    after = samples[len(samples) // 10 :]
    quarter = max(1, len(after) // 4)
    first = statistics.median(one["rss"] for one in after[:quarter])
    last = statistics.median(one["rss"] for one in after[-quarter:])
    return {
        "first_quarter": first,
        "last_quarter": last,
        "ratio": last / first,
        "peak": max(one["rss"] for one in after),
    }


async def every_slot(soak: Soak, slots: int) -> bool:
    """Fill all slots at once and see that each still answers right."""
    body = {"prompt": PROMPTS[0], "max_tokens": 40, "temperature": 0}
    before = len(soak.wrong)
    for model in ("zoo-tiny-fp32", "zoo-tiny-int8"):
        asks = (sse.post(soak.server.url, "/v1/completions", body | {"model": model}) for _ in range(slots))
        for answer in await asyncio.gather(*asks):
            soak.check(model, body, answer)
    return len(soak.wrong) == before


def main() -> int:
    """Run the soak; exit code 1 where anything was wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--slots", type=int, default=4)
    parser.add_argument("--nice", type=int, default=0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    serving.low_priority(options.nice)
    with tempfile.TemporaryDirectory(prefix="zoo-soak-") as folder:
        here = Path(folder)
        packages = {f"zoo-tiny-{one}": serving.build_tiny(here, one) for one in ("fp32", "int8")}
        server = serving.Server(
            list(packages.values()), here / "log.jsonl", "--slots", options.slots, "--queue", 24, "--threads", 1,
            "--memory", "100MB", "--send-timeout", 5,
        )  # fmt: skip
        try:
            soak = Soak(server, Expected(packages), options.minutes * 60, options.seed)
            started = time.monotonic()
            asyncio.run(soak.run())
            seconds = time.monotonic() - started
            idle = serving.wait_idle(server.url)
            slots = asyncio.run(every_slot(soak, options.slots))
            code = server.stop()
            errors = server.events("error")
            cut = Counter(one["reason"] for one in server.events("connection_cut"))
        finally:
            server.kill()
        result = {
            "what": "soak", "date": date.today().isoformat(), "machine": machine.describe(),
            "seconds": round(seconds, 1), "clients": CLIENTS, "slots": options.slots, "done": dict(soak.done),
            "wrong": soak.wrong[:20], "wrong_count": len(soak.wrong), "server_errors": errors[:5],
            "memory": memory(soak.samples), "samples": soak.samples[:: max(1, len(soak.samples) // 60)],
            "idle_at_the_end": not idle["zoo_requests_running"] and not idle["zoo_requests_waiting"],
            "cut": dict(cut), "every_slot_works": slots, "exit_code": code,
            "output_tokens": idle["zoo_output_tokens_total"], "cancelled": idle["zoo_sequences_cancelled_total"],
        }  # fmt: skip
    print(json.dumps({name: one for name, one in result.items() if name != "samples"}, indent=1))
    if options.out is not None:
        options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    good = not soak.wrong and not errors and slots and result["idle_at_the_end"] and code == 0
    return 0 if good and result["memory"]["ratio"] < 1.1 else 1


if __name__ == "__main__":
    raise SystemExit(main())
