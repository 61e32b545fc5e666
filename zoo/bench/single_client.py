"""Requests to an engine that answers one at a time: each waits for the one before it."""

from __future__ import annotations

import asyncio
import threading
import time

from zoo.bench.load import OnTokens
from zoo.bench.timeline import Timeline
from zoo.bench.workload import Prompt
from zoo.contracts import Engine
from zoo.errors import ZooError


class SingleClient:
    """Sends prompts to an engine; greedy, past the model's own end of text."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._lock = threading.Lock()

    def close(self) -> None:
        """Nothing to let go of: the engine is its opener's."""

    async def send(self, prompt: Prompt, timeline: Timeline, on_tokens: OnTokens) -> None:
        """Send a prompt and fill its timeline, in a thread beside the event loop."""
        await asyncio.to_thread(self._answer, prompt, timeline, on_tokens)

    def _answer(self, prompt: Prompt, timeline: Timeline, on_tokens: OnTokens) -> None:
        with self._lock:
            try:
                answer = self._engine.stream(
                    prompt.content, max_new_tokens=prompt.output_len, temperature=0.0, ignore_eos=True
                )
                for piece in answer:
                    if piece.token_id is not None:
                        timeline.token_times.append(time.perf_counter())
                        on_tokens(1)
            except ZooError as error:
                timeline.error = str(error)
                return
        timeline.prompt_tokens = len(answer.generation.prompt_ids)
        timeline.output_tokens = len(answer.generation.token_ids)
        timeline.finished = time.perf_counter()
