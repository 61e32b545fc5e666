"""Send prompts through a client: so many at once, or as they arrive, and watch the clock."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from zoo.bench.timeline import Timeline
from zoo.bench.workload import Prompt

OnTokens = Callable[[int], None]
"""Told how many tokens have come since it was last told; may be called from another thread."""


class Client(Protocol):
    """Who sends one prompt and watches its answer."""

    async def send(self, prompt: Prompt, timeline: Timeline, on_tokens: OnTokens) -> None:
        """Send a prompt and fill its timeline, until the answer is complete or has failed."""


async def run_load(
    client: Client,
    prompts: Sequence[Prompt],
    *,
    concurrency: int | None,
    arrivals: Sequence[float] | None = None,
    on_tokens: OnTokens = lambda count: None,
) -> list[Timeline]:
    """Send every prompt once.

    Args:
        concurrency: how many at once at most; None does not limit them.
        arrivals: when each is due, in seconds from the start. One that finds no free place waits, and its latencies
            count from when it was due, or else a server that stalls would look quick: the requests that the stall
            keeps from being sent would not be measured. Without arrivals, each is due when a place is free.

    Returns:
        A timeline a prompt, in their order.
    """
    places = asyncio.Semaphore(concurrency or max(1, len(prompts)))
    started = time.perf_counter()

    async def one(index: int) -> Timeline:
        due = started
        if arrivals is not None:
            due += arrivals[index]
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
        async with places:
            timeline = Timeline(arrival=time.perf_counter() if arrivals is None else due)
            await client.send(prompts[index], timeline, on_tokens)
            return timeline

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one(index)) for index in range(len(prompts))]
    return [task.result() for task in tasks]
