"""Requests to an opened package in this process: the engine's scheduler, asked directly."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from zoo.bench.load import OnTokens
from zoo.bench.timeline import Timeline
from zoo.bench.workload import Prompt
from zoo.contracts import Batching
from zoo.errors import ZooError


class EngineClient:
    """Sends prompts to a scheduler over an engine; greedy, past the model's own end of text.

    The prefix cache is off: what is measured is the work that a prompt makes, not the memory of the last run.

    Args:
        slots: requests that run at once; others wait.
        tokens: of the longest prompt with its answer.

    Raises:
        ZooError: there is no memory for as many requests of that length.
    """

    def __init__(self, engine: Batching, slots: int, tokens: int = 0) -> None:
        self._engine = engine
        self._scheduler = engine.queue(slots=slots, prefix_cache_bytes=0)
        if tokens > self._scheduler.context:
            self._scheduler.close()
            raise ZooError(f"with {slots} requests at once there is memory for {self._scheduler.context} tokens each")

    def close(self) -> None:
        """Let the scheduler go."""
        self._scheduler.close()

    async def send(self, prompt: Prompt, timeline: Timeline, on_tokens: OnTokens) -> None:
        """Send a prompt and fill its timeline from the scheduler's own clock."""
        from zoo.engine.generation import Limits

        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()

        def finish() -> None:
            if not done.done():
                done.set_result(None)

        try:
            ticket = self._scheduler.submit(
                self._ids(prompt.content),
                Limits(max_new_tokens=prompt.output_len),
                on_piece=lambda piece: on_tokens(1),
                on_done=lambda ticket: _tell(loop, finish),
            )
        except ZooError as error:
            timeline.error = str(error)
            return
        try:
            await done
        except asyncio.CancelledError:
            ticket.cancel()
            raise
        timeline.prompt_tokens = len(ticket.generation.prompt_ids)
        timeline.token_times = list(ticket.token_times)
        timeline.output_tokens = len(ticket.generation.token_ids)
        timeline.finished = ticket.finished or timeline.arrival
        if ticket.error is not None:
            timeline.error = str(ticket.error) or type(ticket.error).__name__

    def _ids(self, content: str | Sequence[int]) -> Sequence[int]:
        return self._engine.encode(content) if isinstance(content, str) else content


def _tell(loop: asyncio.AbstractEventLoop, finish: Any) -> None:
    """Call from the scheduler's thread; a loop that has ended meanwhile wants to know nothing."""
    if not loop.is_closed():
        loop.call_soon_threadsafe(finish)
