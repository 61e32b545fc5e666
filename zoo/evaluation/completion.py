"""Texts that a model writes after prompts, several at a time, until one of the given strings comes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from zoo.engine import OrtEngine
from zoo.engine.cache import Slots
from zoo.engine.decoding import decode
from zoo.engine.generation import ActiveRequest, Generation, Limits
from zoo.engine.sampling import Sampling
from zoo.engine.steps import compute

GREEDY = Sampling()
BATCH = 8
"""Answers that one step brings on."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt to complete."""

    ids: tuple[int, ...]
    until: tuple[str, ...]
    """Strings that end the text and are no part of it."""
    max_new_tokens: int
    sampling: Sampling = GREEDY


def complete(engine: OrtEngine, requests: Sequence[Prompt], batch: int = BATCH) -> Iterator[tuple[int, str]]:
    """Complete prompts, in the order of their ids, so that what neighbours begin with is computed once.

    Args:
        batch: how many are under way at once; no text depends on it.

    Yields:
        The request's index and its text.
    """
    assert engine.tokenizer is not None  # whoever made ids of texts had one
    session = engine.session
    # One more than run, to make a step even, and one that holds the last prompt, for the next to begin with.
    slots = session.new_slots(batch + 2)
    last = batch + 1
    running: dict[int, tuple[int, ActiveRequest]] = {}
    waiting = sorted(range(len(requests)), key=lambda one: requests[one].ids, reverse=True)
    while waiting or running:
        for slot in range(batch):
            if waiting and slot not in running:
                index = waiting.pop()
                running[slot] = index, _begin(engine, slots, slot, last, requests[index])
        alive = {slot: request for slot, (_, request) in running.items() if not request.finished}
        if alive:
            for _, error in decode(session, slots, alive, even=True).answers.values():
                if error is not None:
                    raise error
        for slot in [one for one, (_, request) in running.items() if request.finished]:
            index, request = running.pop(slot)
            slots.keep(slot, 0)
            yield index, cut(engine.tokenizer.decode(request.generation.token_ids), requests[index].until)


def _begin(engine: OrtEngine, slots: Slots, slot: int, last: int, prompt: Prompt) -> ActiveRequest:
    """Compute a prompt and choose its answer's first token."""
    held = min(slots.sequence(last).common(prompt.ids), len(prompt.ids) - 1)
    (logits,) = compute(engine.session, slots, last, prompt.ids, held, 1)
    slots.copy(last, slot, len(prompt.ids))
    limits = Limits(prompt.max_new_tokens, tuple(stop for stop in prompt.until if stop), engine.stop_token_ids)
    generation = Generation(list(prompt.ids))
    request = ActiveRequest(generation, limits, prompt.sampling, engine.context_length, engine.tokenizer)
    request.accept(logits[0])
    return request


def cut(text: str, until: Sequence[str]) -> str:
    """Cut a text before the first of each string."""
    for stop in until:
        if stop:
            text = text.split(stop)[0]
    return text
