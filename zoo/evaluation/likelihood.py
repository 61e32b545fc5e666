"""Log-likelihoods of continuations over a session: what a question's options share is computed once.

Questions come in the order of their contexts' ids, so that neighbours share the longest beginnings, worked examples
among them; short options are computed side by side in one step. A score does not depend on either: see ``steps``.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from zoo.engine.cache import Slots
from zoo.engine.session import LOGITS_BYTES, MIN_CHUNK, Session
from zoo.engine.steps import compute, part_of
from zoo.errors import ZooError

Ids = tuple[int, ...]
BATCH = 8
"""Options that one step takes."""
COPIES_BYTES = 512 * 2**20
"""Bound on the copies of a context's keys and values that options side by side need."""
WORTH = 5
"""Tokens of padding that a step saved is worth: what it costs to begin a step, in tokens."""
CONTEXT = 0
"""The slot of the context; the others are for options."""


@dataclass(frozen=True, slots=True)
class Continuation:
    """Ids whose log-likelihood after a context is asked for; neither is empty."""

    context: Ids
    ids: Ids


@dataclass(frozen=True, slots=True)
class Likelihood:
    """What a model makes of a continuation."""

    logprob: float
    """Natural logarithm of its probability."""
    greedy: bool
    """Whether greedy decoding would have written it."""


def score(session: Session, requests: Sequence[Continuation], batch: int = BATCH) -> Iterator[tuple[int, Likelihood]]:
    """Score continuations, question by question.

    Args:
        batch: how many options a step may take; no score depends on it.

    Yields:
        The request's index and its score.

    Raises:
        ZooError: the model's numbers are not finite, or a text does not fit the context.
    """
    slots = session.new_slots(1 + batch)
    for context, options in questions(requests):
        for ids, likelihood in _question(session, slots, context, list(options)):
            for index in options[ids]:
                yield index, likelihood


def questions(requests: Sequence[Continuation]) -> list[tuple[Ids, dict[Ids, list[int]]]]:
    """Gather requests by context; contexts in the order of their ids, each with its continuations' indexes."""
    gathered: dict[Ids, dict[Ids, list[int]]] = defaultdict(lambda: defaultdict(list))
    for index, one in enumerate(requests):
        gathered[one.context][one.ids].append(index)
    return sorted(gathered.items())


def _question(session: Session, slots: Slots, context: Ids, options: Sequence[Ids]) -> Iterator[tuple[Ids, Likelihood]]:
    """Score the options of one context: those of one token on what comes after it, the others in steps of their own."""
    last = len(context) - 1
    longer = sorted((option for option in options if len(option) > 1), key=len, reverse=True)
    held = min(slots.sequence(CONTEXT).common(context), last)
    if len(longer) < len(options):
        (logits,) = compute(session, slots, CONTEXT, context, held, 1)
        for single in options:
            if len(single) == 1:
                yield single, rate([logits], single)
    elif held < last:
        for _ in compute(session, slots, CONTEXT, context[:last], held, 0):
            pass
    room = COPIES_BYTES // (session.token_bytes * (len(context) + max(map(len, options))))
    for together in _packed([len(option) for option in longer], min(len(slots) - 1, room), session.vocab_size):
        for ids, blocks in _options(session, slots, context, [longer[at] for at in together]):
            yield ids, rate(blocks, ids)


def _packed(lengths: Sequence[int], batch: int, vocab_size: int) -> Iterator[list[int]]:
    """Put options side by side, longest first, while the padding costs less than the steps that it saves.

    Args:
        lengths: tokens of each, in descending order.

    Yields:
        Positions that one step takes.
    """
    at = 0
    most = LOGITS_BYTES // (4 * vocab_size)
    while at < len(lengths):
        width, count, used = lengths[at], 1, lengths[at]
        while at + count < len(lengths) and count < batch:
            grown = used + lengths[at + count]
            if (count + 1) * width - grown > WORTH * count or (count + 1) * width > min(MIN_CHUNK * 4, most):
                break
            count, used = count + 1, grown
        yield list(range(at, at + count))
        at += count


def _options(
    session: Session, slots: Slots, context: Ids, options: Sequence[Ids]
) -> Iterator[tuple[Ids, Iterable[NDArray[np.float32]]]]:
    """Compute the logits that options of two tokens and more are rated by, one row a token."""
    last = len(context) - 1
    texts = [context + option[:-1] for option in options]
    if len(options) == 1 or max(map(len, texts)) == session.context:  # no room for a filler beside it
        for text, one in zip(texts, options, strict=True):
            yield one, compute(session, slots, CONTEXT, text, last, len(one))
        return
    parts = [part_of(text, last, len(one)) for text, one in zip(texts, options, strict=True)]
    for slot, part in enumerate(parts, CONTEXT + 1):
        slots.copy(CONTEXT, slot, part.start)
    found = session.step(slots, [part.row(slot) for slot, part in enumerate(parts, CONTEXT + 1)])
    for one, part, logits in zip(options, parts, found, strict=True):
        yield one, [part.wanted(logits, len(one))]
    for slot in range(CONTEXT + 1, CONTEXT + 1 + len(parts)):
        slots.keep(slot, 0)


def rate(blocks: Iterable[NDArray[np.float32]], ids: Sequence[int]) -> Likelihood:
    """Sum up the log-probabilities of ids, one row of logits each.

    Raises:
        ZooError: a logit is not finite.
    """
    total, greedy, at = 0.0, True, 0
    for logits in blocks:
        wanted = np.asarray(ids[at : at + len(logits)])
        rows = np.arange(len(wanted))
        best = logits.argmax(axis=-1)
        peak = logits[rows, best]
        if not np.isfinite(peak).all():
            raise ZooError("the model computed logits that are not numbers; verify the package: zoo verify")
        # Natural log of the softmax: less the peak, so that nothing overflows.
        norm = np.log(np.exp(logits - peak[:, None]).sum(axis=-1, dtype=np.float64))
        total += float((logits[rows, wanted].astype(np.float64) - peak - norm).sum())
        greedy = greedy and bool((best == wanted).all())
        at += len(logits)
    return Likelihood(total, greedy)
