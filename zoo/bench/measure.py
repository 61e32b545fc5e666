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
from zoo.errors import ZooError

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


class BenchRow(Figures):
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

    def end(self, work: float) -> None:
        self.done += work
        self.tokens = 0

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
) -> tuple[list[BenchRow], list[Skipped]]:
    """Measure every workload in each of some rounds, so that what drifts meanwhile touches all of them alike.

    Args:
        open_client: opens what a workload is sent through; a ``ZooError`` of it leaves the workload out.
        warmup: requests before each run that are not counted; their answers have ``WARMUP_OUTPUT`` tokens at most.

    Returns:
        A row for each workload of which at least one request was completed, and the others with their reasons.
    """
    records = [_Record(workload) for workload in workloads]
    tally = _Tally(rounds * sum(_work(workload) for workload in workloads))
    async with _watching(tally, progress):
        for number in range(rounds):
            for record in records:
                workload = record.workload
                if record.reason is None:
                    tally.begin(workload.label + (f", round {number + 1} of {rounds}" if rounds > 1 else ""))
                    try:
                        async with open_client(workload) as client:
                            await _round(client, record, number, warmup, tally.add)
                    except ZooError as error:
                        record.fail(str(error))
                tally.end(_work(workload))
    return (
        [record.row() for record in records if record.reason is None],
        [Skipped(label=record.workload.label, reason=record.reason) for record in records if record.reason is not None],
    )


@dataclass
class _Record:
    """What came of a workload so far."""

    workload: Workload
    runs: list[list[Timeline]] = field(default_factory=list)
    wanted: list[int] = field(default_factory=list)
    """Tokens of each answer that were asked for, in the order of the runs."""
    reason: str | None = None
    """Why it is left out."""

    def fail(self, reason: str) -> None:
        """Leave the workload out, unless something of it was completed before."""
        if all(request.error is not None for run in self.runs for request in run):
            self.reason = reason

    def row(self) -> BenchRow:
        """Sum it up."""
        workload = self.workload
        every = [request for run in self.runs for request in run]
        done = [(one, most) for one, most in zip(every, self.wanted, strict=True) if one.error is None]
        return BenchRow(
            **summarize(self.runs).model_dump(),
            label=workload.label,
            input_len=workload.input_len,
            output_len=workload.output_len,
            concurrency=workload.concurrency,
            prompts=workload.prompts,
            output_throughput_by_round=tuple(summarize([run]).output_throughput for run in self.runs),
            short_answers=sum(one.output_tokens < most for one, most in done if one.counted),
            counted_by_pieces=sum(not one.counted for one, _ in done),
        )


async def _round(client: Client, record: _Record, number: int, warmup: int, on_tokens: OnTokens) -> None:
    """Send a few requests that do not count, then a round's prompts; where all fail, the first error is the reason."""
    workload = record.workload
    short = [
        Prompt(prompt.content, prompt.tokens, min(prompt.output_len, WARMUP_OUTPUT))
        for prompt in workload.draw(-1, warmup)
    ]
    warm = await run_load(client, short, concurrency=workload.concurrency)
    if warm and all(request.error is not None for request in warm):
        record.fail(str(warm[0].error))
        return
    prompts = workload.draw(number, workload.prompts)
    arrivals = workload.arrivals(number) if workload.arrivals is not None else None
    timelines = await run_load(
        client, prompts, concurrency=workload.concurrency, arrivals=arrivals, on_tokens=on_tokens
    )
    record.runs.append(timelines)
    record.wanted += [prompt.output_len for prompt in prompts]
    record.fail(str(timelines[0].error))


def _work(workload: Workload) -> float:
    each = (workload.output_len or 256) + PROMPT_WEIGHT * (workload.input_len or 256)
    return workload.prompts * each


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
