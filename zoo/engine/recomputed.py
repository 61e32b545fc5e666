"""The answer of an engine that gives logits and keeps no cache: each token is computed from the whole text again."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from zoo.engine.generation import ActiveRequest, Generation, Piece
from zoo.engine.options import read_options
from zoo.errors import UsageError, ZooError

if TYPE_CHECKING:
    from zoo.contracts.engine import LogitEngine
    from zoo.engine.text import Tokenizer


class Recomputed:
    """Pieces of an answer, one by one (the ``Answer`` protocol); sampling, stops and limits are those of any engine.

    Args:
        engine: what computes logits.
        prompt: token ids, or text where there is a tokenizer.
        options: the keywords of ``Engine.stream``.
        tokenizer: None where no text is wanted.

    Raises:
        UsageError: a value out of range, or an empty prompt.
        ZooError: the prompt does not fit the context.
    """

    def __init__(
        self,
        engine: LogitEngine,
        prompt: str | Sequence[int] | None,
        options: Mapping[str, Any],
        tokenizer: Tokenizer | None = None,
    ) -> None:
        ids = engine.encode(prompt) if isinstance(prompt, str) else [int(token) for token in prompt or ()]
        if not ids:
            raise UsageError("the prompt is empty")
        if len(ids) >= engine.context_length:
            raise ZooError(f"the prompt has {len(ids)} tokens; this model takes at most {engine.context_length - 1}")
        limits, sampling = read_options(options, engine.stop_token_ids)
        self.generation = Generation(ids)
        self.generation.timings.load_s = engine.load_seconds
        self._engine = engine
        self._request = ActiveRequest(self.generation, limits, sampling, engine.context_length, tokenizer)

    def __iter__(self) -> Recomputed:
        return self

    def __next__(self) -> Piece:
        if self._request.finished:
            raise StopIteration
        generation, timings, started = self.generation, self.generation.timings, time.perf_counter()
        try:
            logits = self._engine.logits([*generation.prompt_ids, *generation.token_ids], 1)
        except KeyboardInterrupt:
            self.close()
            raise
        piece = self._request.accept(logits[-1])
        if timings.prefill_tokens:
            timings.decode_tokens += 1
            timings.decode_s += time.perf_counter() - started
        else:
            timings.prefill_tokens, timings.prefill_s = len(generation.prompt_ids), time.perf_counter() - started
        if piece.token_id is None and not piece.text:
            raise StopIteration
        return piece

    def close(self) -> None:
        """Leave the answer as it is."""
        self._request.interrupt()
