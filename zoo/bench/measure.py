"""Workloads → rows of figures: warm-up, rounds that interleave the workloads, progress, and what was left out."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field

from zoo.bench.load import Client, OnTokens, run_load
from zoo.bench.metrics import Figures, summarize
from zoo.bench.timeline import Timeline
from zoo.bench.workload import WARMUP_OUTPUT, Prompt
from zoo.declarations.base import Value

TICK = 0.25
"""Seconds between two looks at the progress; each takes the processor from what is measured."""
PROMPT_WEIGHT = 1 / 8
"""Work of a prompt's token, in tokens of an answer, for the time that is left: a guess that bends as work is done."""


@dataclass(frozen=True)
class Workload:
    """What to send, round by round."""

    label: str
    concurrency: int | None
    prompts: int
    """Prompts of a round."""
    draw: Callable[[int, int], Sequence[Prompt]]
    """Round and count → prompts, others each round; round -1 is for warm-up."""
    input_len: int | None = None
    """Tokens of every prompt; None where they vary."""
    output_len: int | None = None
    arrivals: Callable[[int], Sequence[float]] | None = None
    """Round → when each prompt is due, in seconds; None sends one as soon as a place is free."""


class Row(Figures):
    """Figures of one workload, all rounds together."""

    label: str
    input_len: int | None
    output_len: int | None
    concurrency: int | None
    prompts: int
    """Prompts of a round."""
    output_throughput_by_round: tuple[float, ...]
    short_answers: int
    """Answers of fewer tokens than were asked for."""
    counted_by_pieces: int
    """Answers whose tokens nobody counted: their pieces of text stand for them."""


class Skipped(Value):
    """A workload that was not measured, and why."""

    label: str
    reason: str


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a measurement is."""

    label: str
    """The workload that runs, and its round."""
    share: float
    """Of the whole, from 0 to 1."""
    tokens_per_s: float
    """Output tokens a second of the workload that runs."""
    eta: float | None
    """Seconds that are left, by what is done so far."""


OpenClient = Callable[[Workload], AbstractAsyncContextManager[Client]]


@dataclass
class _Tally:
    """Counts tokens as they come; told from any thread."""

    total: float
    label: str = ""
    done: float = 0.0
    tokens: int = 0
    since: float = field(default_factory=time.perf_counter)
    started: float = field(default_factory=time.perf_counter)

    def begin(self, label: str) -> None:
        self.label, self.tokens, self.since = label, 0, time.perf_counter()

    def add(self, count: int) -> None:
        self.tokens += count

    def progress(self) -> Progress:
        now = time.perf_counter()
        done = min(self.done + self.tokens, self.total)
        share = done / self.total if self.total else 1.0
        eta = (now - self.started) * (1 - share) / share if share > 0.01 else None
        return Progress(self.label, share, self.tokens / max(now - self.since, 1e-9), eta)


async def measure(
    workloads: Sequence[Workload],
    open_client: OpenClient,
    *,
    rounds: int = 1,
    warmup: int = 1,
    progress: Callable[[Progress], None] | None = None,
) -> tuple[list[Row], list[Skipped]]:
    """Measure every workload in each of some rounds, so that what drifts meanwhile touches all of them alike.

    Args:
        open_client: opens what a workload is sent through.
        warmup: requests before each run that are not counted; their answers have ``WARMUP_OUTPUT`` tokens at most.

    Returns:
        A row for each workload of which at least one request was completed, and the others with their reasons.
    """
    runs: dict[int, list[list[Timeline]]] = {index: [] for index in range(len(workloads))}
    wanted: dict[int, list[int]] = {index: [] for index in range(len(workloads))}
    skipped: dict[int, Skipped] = {}
    tally = _Tally(rounds * sum(_work(one) for one in workloads))
    async with _watching(tally, progress):
        for number in range(rounds):
            for index, workload in enumerate(workloads):
                if index in skipped:
                    continue
                tally.begin(workload.label + (f", round {number + 1} of {rounds}" if rounds > 1 else ""))
                async with open_client(workload) as client:
                    reason = await _warm_up(client, workload, warmup)
                    if reason is None:
                        prompts = workload.draw(number, workload.prompts)
                        timelines = await _run(client, workload, number, prompts, tally.add)
                        runs[index].append(timelines)
                        wanted[index] += [one.output_len for one in prompts]
                        if all(one.error is not None for one in timelines):
                            reason = timelines[0].error
                if reason is not None and not any(one.error is None for run in runs[index] for one in run):
                    skipped[index] = Skipped(label=workload.label, reason=reason)
                tally.done += _work(workload)
                tally.tokens = 0
    rows = [_row(workloads[index], runs[index], wanted[index]) for index in runs if index not in skipped]
    return rows, list(skipped.values())


async def _warm_up(client: Client, workload: Workload, count: int) -> str | None:
    """Send a few requests that do not count; return why all of them failed, where they did."""
    prompts = [Prompt(one.content, one.tokens, min(one.output_len, WARMUP_OUTPUT)) for one in workload.draw(-1, count)]
    timelines = await run_load(client, prompts, concurrency=workload.concurrency)
    failed = [one.error for one in timelines if one.error is not None]
    return failed[0] if failed and len(failed) == len(timelines) else None


async def _run(
    client: Client, workload: Workload, number: int, prompts: Sequence[Prompt], on_tokens: OnTokens
) -> list[Timeline]:
    arrivals = workload.arrivals(number) if workload.arrivals is not None else None
    return await run_load(client, prompts, concurrency=workload.concurrency, arrivals=arrivals, on_tokens=on_tokens)


def _work(workload: Workload) -> float:
    each = (workload.output_len or 256) + PROMPT_WEIGHT * (workload.input_len or 256)
    return workload.prompts * each


def _row(workload: Workload, runs: Sequence[Sequence[Timeline]], wanted: Sequence[int]) -> Row:
    every = [one for run in runs for one in run]
    done = [(one, most) for one, most in zip(every, wanted, strict=True) if one.error is None]
    return Row(
        **summarize(runs).model_dump(),
        label=workload.label,
        input_len=workload.input_len,
        output_len=workload.output_len,
        concurrency=workload.concurrency,
        prompts=workload.prompts,
        output_throughput_by_round=tuple(summarize([run]).output_throughput for run in runs),
        short_answers=sum(one.output_tokens < most for one, most in done if one.counted),
        counted_by_pieces=sum(not one.counted for one, _ in done),
    )


@asynccontextmanager
async def _watching(tally: _Tally, progress: Callable[[Progress], None] | None) -> AsyncIterator[None]:
    """Report how far a tally is, now and then."""
    if progress is None:
        yield
        return
    report = progress

    async def watch() -> None:
        while True:
            report(tally.progress())
            await asyncio.sleep(TICK)

    task = asyncio.create_task(watch())
    try:
        yield
    finally:
        task.cancel()
