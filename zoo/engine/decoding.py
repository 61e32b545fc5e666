"""One step of answers under way: what each brings, what the session makes of it, and the pieces that come of that.

Whoever runs answers goes through here: one by itself (``generation``), many as they come and go (``scheduler``), and an
evaluation's, whose numbers may not depend on what they are computed with (``zoo.evaluation.completion``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from zoo.engine.session import Row
from zoo.engine.steps import FILLER
from zoo.errors import ZooError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from zoo.engine.cache import Slots
    from zoo.engine.draft import Draft
    from zoo.engine.generation import ActiveRequest, Piece
    from zoo.engine.session import Session


class Decoded(NamedTuple):
    """What came of a step."""

    answers: dict[int, tuple[list[Piece], ZooError | None]]
    """For each slot the pieces of its answer, possibly none, and what the answer fails by."""
    prompts: dict[int, NDArray[np.float32]]
    """For each slot that a prompt was computed in, the logits of its last token, (vocab,), until the next step."""


def decode(
    session: Session,
    slots: Slots,
    running: Mapping[int, ActiveRequest],
    *,
    prompts: Sequence[Row] = (),
    guesses: int = 0,
    even: bool = False,
    draft: Draft | None = None,
) -> Decoded:
    """Bring every answer on by a step.

    Args:
        running: slot → answer; each has its first token.
        prompts: parts of prompts that the same step computes.
        guesses: tokens that one answer may guess at most, beside the one that it brings.
        even: compute an even number of tokens, by an idle slot beside or between them, so that kernels take the same
            path however many answers there are. Slots must reach one past the last answer.
        draft: guesses where the text itself gives no hint.

    Raises:
        ZooError: the step itself fails, for all of them.
    """
    news = {slot: request.next_ids(guesses) for slot, request in running.items()}
    if draft is not None and guesses:
        draft.extend(news, running, guesses)
    rows = [*prompts, *(Row(slot, ids, len(ids)) for slot, ids in news.items())]
    rows.sort(key=lambda row: row.slot)
    if even:
        rows = _even(rows)
    begun = {row.slot for row in prompts}
    decoded = Decoded({}, {})
    for row, logits in zip(rows, session.step(slots, rows), strict=True):
        if row.slot in begun:
            decoded.prompts[row.slot] = logits[-1]
            continue
        if row.slot not in running:
            slots.keep(row.slot, 0)
            continue
        request = running[row.slot]
        try:
            pieces, error = request.advance(row.ids, logits), None
        except ZooError as problem:
            pieces, error = [], problem
        if len(row.ids) > 1 and error is None:
            slots.keep(row.slot, request.held)
        decoded.answers[row.slot] = pieces, error
    return decoded


def _even(rows: list[Row]) -> list[Row]:
    """Add an idle slot, beside or between them, to an odd number of rows of one token."""
    if len(rows) % 2 == 0:
        return rows
    taken = {row.slot for row in rows}
    slot = next(slot for slot in range(rows[0].slot, rows[-1].slot + 2) if slot not in taken)
    return sorted([*rows, Row(slot, [FILLER])], key=lambda row: row.slot)
