"""A request in its slot, and what a scheduler counts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from zoo.engine.generation import ActiveRequest
    from zoo.engine.ticket import Ticket


@dataclass(frozen=True, slots=True)
class SchedulerStats:
    """What a scheduler does now, and did so far."""

    slots: int
    running: int
    waiting: int
    requests: int
    """Submitted so far; ``finished``, ``cancelled`` and ``failed`` are those that ended, by how."""
    finished: int
    cancelled: int
    failed: int
    prompt_tokens: int
    """Of all prompts that were started, those from the prefix cache included."""
    cached_tokens: int
    output_tokens: int
    guessed_tokens: int
    """Output tokens that prompt lookup or a draft model had guessed right."""
    steps: int
    prefix_cache_bytes: int
    cache_bytes: int
    """Address space of the slots' KV caches."""


class Seat:
    """A running request and its slot."""

    def __init__(self, ticket: Ticket, request: ActiveRequest, slot: int) -> None:
        self.ticket = ticket
        self.request = request
        self.slot = slot
        self.scored: Iterator[NDArray[np.float32]] | None = None
        """The prompt's logits, where all of them are wanted."""

    @property
    def prompt(self) -> list[int]:
        return self.ticket.generation.prompt_ids

    @property
    def decoding(self) -> bool:
        return bool(self.ticket.generation.token_ids)
