"""Prompts → workloads: random ones of fixed lengths, or conversations of a dataset."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

import numpy as np

from zoo.bench.measure import Workload
from zoo.bench.workload import Cell, Prompt

Make = Callable[[np.random.Generator, int], str | Sequence[int]]
"""Random source and tokens → a prompt of so many tokens."""
WARMUP = 2**31
"""Stands for the warm-up where seeds are made of a round's number."""


def id_maker(vocab_size: int, lead: Sequence[int], avoid: Collection[int]) -> Make:
    """Make prompts of token ids, exactly as long as asked for; see ``random_ids``."""
    return lambda random, length: random_ids(random, length, vocab_size, lead, avoid)


def random_ids(
    random: np.random.Generator, length: int, vocab_size: int, lead: Sequence[int] = (), avoid: Collection[int] = ()
) -> list[int]:
    """Draw a prompt of token ids.

    Args:
        lead: what the model expects at the beginning, counted in the length.
        avoid: special tokens, which mean something.
    """
    allowed = np.setdiff1d(np.arange(vocab_size), np.fromiter(avoid, np.int64, len(avoid)))
    body = random.choice(allowed if len(allowed) else np.arange(vocab_size), max(0, length - len(lead)))
    return [*lead[:length], *map(int, body)]


def fixed(cell: Cell, make: Make, *, seed: int, request_rate: float | None) -> Workload:
    """Make a workload of random prompts; every round has others, so that no cache of prompts knows them."""

    def draw(number: int, count: int) -> list[Prompt]:
        random = np.random.default_rng([seed, WARMUP if number < 0 else number, cell.input_len, cell.output_len])
        return [Prompt(make(random, cell.input_len), cell.input_len, cell.output_len) for _ in range(count)]

    return Workload(
        label=cell.label + _rate(request_rate),
        concurrency=cell.concurrency,
        prompts=cell.prompts,
        draw=draw,
        input_len=cell.input_len,
        output_len=cell.output_len,
        arrivals=_arrivals(cell.prompts, request_rate, seed),
    )


def varied(
    name: str,
    prompts: Sequence[Prompt],
    *,
    rounds: int,
    warmup: int,
    concurrency: int | None,
    seed: int,
    request_rate: float | None,
) -> Workload:
    """Make a workload of prompts that were drawn already, those of the warm-up first; every round has others."""
    each = (len(prompts) - warmup) // rounds

    def draw(number: int, count: int) -> Sequence[Prompt]:
        start = 0 if number < 0 else warmup + number * each
        return prompts[start : start + count]

    return Workload(
        label=name + (f" ×{concurrency}" if concurrency else "") + _rate(request_rate),
        concurrency=concurrency,
        prompts=each,
        draw=draw,
        arrivals=_arrivals(each, request_rate, seed),
    )


def poisson_arrivals(count: int, rate: float, seed: int) -> list[float]:
    """Draw when requests arrive, in seconds from the start: a Poisson process, its first arrival at 0.

    Args:
        rate: requests a second on average; gaps are exponential with mean 1 / rate.
    """
    gaps = np.random.default_rng(seed).exponential(1 / rate, max(0, count - 1))
    return [0.0, *map(float, gaps.cumsum())][:count]


def _rate(request_rate: float | None) -> str:
    return f" at {request_rate:g}/s" if request_rate else ""


def _arrivals(count: int, request_rate: float | None, seed: int) -> Callable[[int], Sequence[float]] | None:
    if request_rate is None:
        return None
    rate = request_rate
    return lambda number: poisson_arrivals(count, rate, seed + number)
