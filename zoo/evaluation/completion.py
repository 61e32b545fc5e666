"""Texts that a model writes after prompts, until one of the given strings comes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from zoo.engine.generation import Generation, Limits, Request, run_request
from zoo.engine.sampling import Sampling
from zoo.evaluation.likelihood import fill

if TYPE_CHECKING:
    from zoo.engine import Engine


GREEDY = Sampling()


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt to complete."""

    ids: tuple[int, ...]
    until: tuple[str, ...]
    """Strings that end the text and are no part of it."""
    max_new_tokens: int
    sampling: Sampling = GREEDY


def complete(engine: Engine, requests: Sequence[Prompt]) -> Iterator[tuple[int, str]]:
    """Complete prompts one at a time, over one cache; what neighbours begin with is computed once.

    Yields:
        The request's index and its text.
    """
    assert engine.tokenizer is not None  # whoever made ids of texts had one
    session = engine.session
    cache = session.new_cache()
    for index in sorted(range(len(requests)), key=lambda one: requests[one].ids):
        request = requests[index]
        if len(request.ids) > 3:
            # Only what was computed as a prompt is taken over: written tokens are computed one a step, which rounds
            # a little otherwise, and a text must not depend on the one before it.
            fill(session, cache, request.ids[:-2])
        generation = Generation(list(request.ids))
        limits = Limits(request.max_new_tokens, tuple(one for one in request.until if one), engine.stop_token_ids)
        making = Request(generation, limits, request.sampling, engine.context_length, engine.tokenizer)
        for _ in run_request(session, cache, making):
            pass
        cache.keep(max(0, len(request.ids) - 2))
        yield index, cut(engine.tokenizer.decode(generation.token_ids), request.until)


def cut(text: str, until: Sequence[str]) -> str:
    """Cut a text before the first of each string."""
    for one in until:
        if one:
            text = text.split(one)[0]
    return text
