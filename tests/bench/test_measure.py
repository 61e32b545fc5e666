"""Rounds, warm-up, arrivals, progress and what is left out, over a client that takes no time to speak of."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager

import pytest

from zoo.bench import measure as module
from zoo.bench.load import run_load
from zoo.bench.measure import Workload, measure
from zoo.bench.timeline import Timeline
from zoo.bench.workload import WARMUP_OUTPUT, Prompt
from zoo.errors import ZooError


class Echo:
    """Answers each prompt with as many tokens as it wants, and remembers; fails where the prompt says so."""

    def __init__(self, pause: float = 0.0) -> None:
        self.sent: list[tuple[str, int]] = []
        self.pause = pause
        self.running = self.most = 0

    async def send(self, prompt: Prompt, timeline: Timeline, on_tokens) -> None:
        self.sent.append((str(prompt.content), prompt.output_len))
        self.running += 1
        self.most = max(self.most, self.running)
        for _ in range(prompt.output_len):
            await asyncio.sleep(self.pause)
            timeline.token_times.append(time.perf_counter())
            on_tokens(1)
        self.running -= 1
        timeline.prompt_tokens, timeline.output_tokens = prompt.tokens, prompt.output_len
        timeline.finished = time.perf_counter()
        if "bad" in str(prompt.content):
            timeline.error = "refused"


def workload(name: str, prompts: int = 2, output_len: int = 3, concurrency: int | None = 1, **more) -> Workload:
    def draw(number: int, count: int) -> list[Prompt]:
        return [Prompt(f"{name} {number}.{index}", 5, output_len) for index in range(count)]

    return Workload(name, concurrency, prompts, draw, 5, output_len, **more)


def run(workloads, client, **options):
    @asynccontextmanager
    async def opened(workload: Workload):
        yield client

    return asyncio.run(measure(workloads, opened, **options))


def test_rounds_interleave_the_workloads_and_warm_up_before_each() -> None:
    client = Echo()
    rows, skipped = run([workload("a"), workload("b", output_len=100)], client, rounds=2)
    assert [content for content, _ in client.sent] == [
        "a -1.0", "a 0.0", "a 0.1", "b -1.0", "b 0.0", "b 0.1", "a -1.0", "a 1.0", "a 1.1", "b -1.0", "b 1.0", "b 1.1",
    ]  # fmt: skip
    assert {length for content, length in client.sent if content == "b -1.0"} == {WARMUP_OUTPUT}
    assert skipped == []
    assert [(row.label, row.completed, row.total_output_tokens) for row in rows] == [("a", 4, 12), ("b", 4, 400)]
    assert [len(row.output_throughput_by_round) for row in rows] == [2, 2]


def test_a_workload_whose_warm_up_fails_is_skipped_and_not_asked_again() -> None:
    client = Echo()
    rows, skipped = run([workload("bad"), workload("good")], client, rounds=2)
    assert [row.label for row in rows] == ["good"]
    assert [(one.label, one.reason) for one in skipped] == [("bad", "refused")]
    assert sum("bad" in content for content, _ in client.sent) == 1


def test_without_warm_up_a_workload_of_failures_only_is_skipped() -> None:
    rows, skipped = run([workload("bad")], Echo(), warmup=0)
    assert (rows, skipped[0].reason) == ([], "refused")


def test_no_more_than_so_many_at_once() -> None:
    client = Echo(pause=0.001)
    prompts = [Prompt(str(one), 1, 3) for one in range(9)]
    asyncio.run(run_load(client, prompts, concurrency=3))
    assert client.most == 3
    asyncio.run(run_load(client, prompts, concurrency=None))
    assert client.most == 9


def test_waiting_for_a_place_counts_from_the_arrival() -> None:
    client = Echo(pause=0.01)
    prompts = [Prompt(str(one), 1, 2) for one in range(3)]
    timelines = asyncio.run(run_load(client, prompts, concurrency=1, arrivals=[0.0, 0.0, 0.0]))
    assert len({one.arrival for one in timelines}) == 1
    waits = sorted(one.token_times[0] - one.arrival for one in timelines)
    assert waits[1] > 0.02  # the first's two tokens come before
    assert waits[2] > 0.04


def test_requests_are_not_sent_before_they_are_due() -> None:
    started = time.perf_counter()
    timelines = asyncio.run(run_load(Echo(), [Prompt("a", 1, 1)] * 2, concurrency=None, arrivals=[0.0, 0.05]))
    assert timelines[1].token_times[0] >= started + 0.05
    assert timelines[1].arrival - timelines[0].arrival == pytest.approx(0.05)


def test_progress_goes_from_nothing_to_the_end(monkeypatch) -> None:
    monkeypatch.setattr(module, "TICK", 0.002)
    seen: list[module.Progress] = []
    run([workload("a", prompts=4, output_len=8), workload("b", prompts=4, output_len=8)], Echo(0.002), rounds=2,
        progress=seen.append)  # fmt: skip
    shares = [one.share for one in seen]
    assert shares == sorted(shares)
    assert (shares[0], shares[-1] > 0.9) == (0.0, True)
    assert seen[0].eta is None
    assert (seen[len(seen) // 2].eta or 0) > 0
    labels = list(dict.fromkeys(one.label for one in seen if one.label))
    assert labels == ["a, round 1 of 2", "b, round 1 of 2", "a, round 2 of 2", "b, round 2 of 2"]


def test_answers_shorter_than_asked_for_are_counted() -> None:
    class Short(Echo):
        async def send(self, prompt, timeline, on_tokens) -> None:
            await super().send(Prompt(prompt.content, prompt.tokens, 1), timeline, on_tokens)

    rows, _ = run([workload("a", prompts=3)], Short())
    assert rows[0].short_answers == 3


def test_what_cannot_be_opened_is_skipped_with_the_reason() -> None:
    @asynccontextmanager
    async def opened(workload: Workload):
        if workload.label == "wide":
            raise ZooError("no memory for as many")
        yield Echo()

    rows, skipped = asyncio.run(measure([workload("wide"), workload("a")], opened))
    assert ([row.label for row in rows], skipped[0].reason) == (["a"], "no memory for as many")
