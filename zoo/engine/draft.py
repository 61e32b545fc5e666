"""A draft model: guess what follows by a smaller model of the same vocabulary.

Source of the idea: speculative decoding (arXiv 2211.17192). A guess is the draft's likeliest token, and the model
judges guesses as it judges those of prompt lookup: it chooses its own token at every position, and goes on as long as
that is what was guessed. So each token is the model's choice after the text before it, greedy or drawn.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from itertools import pairwise
from typing import TYPE_CHECKING

from zoo.engine.session import Row
from zoo.errors import ZooError

if TYPE_CHECKING:
    from zoo.engine.generation import ActiveRequest, Generation
    from zoo.engine.session import Session

_log = logging.getLogger("zoo")
Costs = tuple[tuple[int, float], ...]
STEP_COST: Costs = ((1, 1.0), (2, 1.33), (4, 1.74), (8, 2.5), (16, 4.0))
STEP_COST_4_BITS: Costs = ((1, 1.0), (2, 1.37), (4, 2.07), (8, 4.1), (16, 6.9))
"""Tokens of a step → its time, in steps of one token (1.1B int8 and 7B int4, 2 cores). Fixed, not measured as it runs:
how far an answer is guessed ahead must not depend on what else the machine does, or equal requests would round
differently."""
FEW_BITS = 6
"""Bits a weight below which a model's steps cost as those of 4 bits."""
DRAFT_COST = 1.3
"""A draft's step in steps of the model, over the ratio of their weights: small steps are less efficient."""
WORTH = 1.03
"""How many times as fast guessing must be to go on."""
FORGET = 0.9
"""What earlier guesses still count for after each one."""
FIRST_REST, LONGEST_REST = 4, 1024
"""Steps without a guess where guesses failed; four times as many each time, up to the longest: to guess again, the
draft must first read all that came meanwhile."""
SHORT = 16
"""Tokens of the text that the draft takes beside its guess; what it lacks before them comes in chunks."""


class Pace:
    """How far it pays to guess one answer ahead, by how its guesses fared.

    Args:
        cost: time of a draft's step, in steps of the model.
        steps: what steps of several tokens cost.
    """

    def __init__(self, cost: float, steps: Costs = STEP_COST) -> None:
        self._cost, self._steps = cost, steps
        self._right, self._wrong = 1.0, 0.5
        self._rest, self._resting = FIRST_REST, 0

    def count(self, most: int, streams: int = 1) -> int:
        """Say how many tokens to guess, at most ``most``, where as many answers share a step; 0 while it rests."""
        if self._resting:
            self._resting -= 1
            return 0
        return min(most, max(1, self._best(most, streams)))

    def learn(self, proposed: int, accepted: int) -> None:
        """Take note of how many tokens of a guess were right."""
        self._right = self._right * FORGET + accepted
        self._wrong = self._wrong * FORGET + (accepted < proposed)
        if self._best(8, 1):
            self._rest = FIRST_REST
        else:
            self._resting, self._rest = self._rest, min(LONGEST_REST, self._rest * 4)

    def _best(self, most: int, streams: int) -> int:
        """Find the number of tokens that makes answers fastest; 0 where none does."""
        right = self._right / (self._right + self._wrong)
        alone, best, gain, expected = self._of(streams), 0, WORTH, 1.0
        for count in range(1, most + 1):
            expected += right**count
            faster = expected * alone / (count * self._cost * alone + self._of(streams * (count + 1)))
            if faster > gain:
                best, gain = count, faster
        return best

    def _of(self, tokens: int) -> float:
        """Return the time of a step of several tokens, in steps of one."""
        for (fewer, low), (more, high) in pairwise(self._steps):
            if tokens <= more:
                return low + (high - low) * (tokens - fewer) / (more - fewer)
        return self._steps[-1][1] * tokens / self._steps[-1][0]


class Draft:
    """Guesses for several answers at once.

    Args:
        session: of the smaller model.
        slots: how many answers there are at most.
        cost: its weights, in those of the model.
        vocab_size: of the model.
        bits: of a weight of the model.
    """

    def __init__(self, session: Session, slots: int, cost: float, vocab_size: int, bits: float) -> None:
        self._session = session
        self._slots = session.new_slots(slots)
        self._cost = DRAFT_COST * cost
        self._steps = STEP_COST_4_BITS if bits < FEW_BITS else STEP_COST
        self._ids = min(vocab_size, session.vocab_size)
        self._seats: dict[ActiveRequest, tuple[int, int]] = {}
        """Answer → its slot here, and how many tokens of its text the slot holds for sure."""

    def pace(self) -> Pace:
        """Make what an answer keeps of its guesses."""
        return Pace(self._cost, self._steps)

    def extend(self, news: Mapping[int, list[int]], running: Mapping[int, ActiveRequest], most: int) -> None:
        """Add guesses to what answers bring to a step.

        Args:
            news: slot → what its answer brings, changed in place; what has guesses already gets no more.
            running: slot → answer.
            most: tokens that one answer may guess.
        """
        self._seats = {request: seat for request, seat in self._seats.items() if request in running.values()}
        wanted = {
            slot: count
            for slot, ids in news.items()
            if len(ids) == 1 and (count := running[slot].guesses_wanted(most, len(running)))
        }
        try:
            rows = [(*found, slot) for slot in wanted if (found := self._catch_up(running[slot])) is not None]
            while rows := [row for row in rows if wanted[row[2]] and self._has_room(*row[:2])]:
                rows.sort(key=lambda row: row[0])
                steps = self._session.step(self._slots, [Row(own, ids) for own, ids, _ in rows])
                rows = [
                    (own, [int(logits[-1, : self._ids].argmax())], slot)
                    for (own, _, slot), logits in zip(rows, steps, strict=True)
                ]
                for _, ids, slot in rows:
                    news[slot] += ids
                    wanted[slot] -= 1
        except ZooError as error:  # whoever waits for an answer gets it without guesses
            _log.warning("the draft model guesses no more: %s", error)
            self._ids = 0

    def _has_room(self, own: int, ids: list[int]) -> bool:
        return len(self._slots.tokens[own]) + len(ids) <= self._slots.context

    def _catch_up(self, request: ActiveRequest) -> tuple[int, list[int]] | None:
        """Bring the draft up to an answer's text, a chunk at a time.

        Returns:
            Its slot here and the text's last tokens, which the slot lacks; None where more is missing, or the draft
            cannot take the text.
        """
        own, known = self._seat(request)
        self._slots.keep(own, known)
        missing = _text(request.generation, known)
        if max(missing) >= self._ids or not self._has_room(own, missing):
            return None
        if len(missing) > SHORT:
            step = missing[: min(self._session.chunk(known), len(missing) - 1)]
            self._session.step(self._slots, [Row(own, step)])
            missing = missing[len(step) :]
        self._seats[request] = own, len(self._slots.tokens[own])
        return (own, missing) if len(missing) <= SHORT else None

    def _seat(self, request: ActiveRequest) -> tuple[int, int]:
        """Return an answer's slot here, and how much of its text that holds; at least its last token is missing."""
        seat = self._seats.get(request)
        if seat is None:
            taken = {own for own, _ in self._seats.values()}
            seat = next(own for own in range(len(self._slots)) if own not in taken), 0
        own, known = seat
        for mine, other in zip(self._slots.tokens[own][known:], _text(request.generation, known)[:-1], strict=False):
            if mine != other:
                break
            known += 1
        return own, known


def _text(generation: Generation, start: int) -> list[int]:
    """Take prompt and answer from some token on."""
    prompt = generation.prompt_ids
    return prompt[start:] + generation.token_ids[max(0, start - len(prompt)) :]
