"""One step of answers under way: what each brings, what the session makes of it, and the pieces that come of that.

Whoever runs answers goes through here: one by itself (``generation``), many as they come and go (``scheduler``), and an
evaluation's, whose numbers may not depend on what they are computed with (``zoo.evaluation.completion``).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from zoo.engine.session import Row
from zoo.engine.steps import FILLER
from zoo.errors import ZooError

if TYPE_CHECKING:
    from zoo.engine.cache import Slots
    from zoo.engine.draft import Draft
    from zoo.engine.generation import Piece, Request
    from zoo.engine.session import Session


def decode(
    session: Session,
    slots: Slots,
    running: Mapping[int, Request],
    *,
    guesses: int = 0,
    even: bool = False,
    draft: Draft | None = None,
) -> dict[int, tuple[list[Piece], ZooError | None]]:
    """Bring every answer on by a step.

    Args:
        running: slot → answer; each has its first token.
        guesses: tokens that one answer may guess at most, beside the one that it brings.
        even: compute an even number of slots and of logits, by an idle slot beside or between them, so that kernels
            take the same path however many answers there are. Slots must reach one past the last answer.
        draft: guesses where the text itself gives no hint.

    Returns:
        For each slot its pieces, possibly none, and what its answer fails by.

    Raises:
        ZooError: the step itself fails, for all of them.
    """
    news = {slot: request.next_ids(guesses) for slot, request in sorted(running.items())}
    if draft is not None and guesses:
        draft.extend(news, running, guesses)
    rows = [Row(slot, ids, len(ids)) for slot, ids in news.items()]
    if even:
        rows = _even(rows)
    results: dict[int, tuple[list[Piece], ZooError | None]] = {}
    for row, logits in zip(rows, session.step(slots, rows), strict=True):
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
        results[row.slot] = pieces, error
    return results


def _even(rows: list[Row]) -> list[Row]:
    """Add an idle slot where rows of one token make an odd number of slots or of logits.

    A step covers all slots from its first to its last, so the idle one lies beside or between them.
    """
    covered = rows[-1].slot - rows[0].slot + 1
    if covered % 2 == 0 and len(rows) % 2 == 0:
        return rows
    taken = {row.slot for row in rows}
    if covered % 2 == 0:  # the rows are odd and their range is even, so one of it is free
        slot = next(slot for slot in range(rows[0].slot, rows[-1].slot) if slot not in taken)
    else:
        slot = rows[-1].slot + 1
    return sorted([*rows, Row(slot, [FILLER], len(rows) % 2)], key=lambda row: row.slot)
