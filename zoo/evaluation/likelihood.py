"""Log-likelihoods of continuations over a session: what a question's options share is computed once.

Every step has at least two tokens a sequence. Steps of one token take another path through onnxruntime's attention and
round otherwise; without them a position's logits do not depend on how the text before it was cut into steps, and so not
on which questions were computed together.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from zoo.engine.session import LOGITS_BYTES
from zoo.errors import ZooError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from zoo.engine.cache import KVCache
    from zoo.engine.session import Session


@dataclass(frozen=True, slots=True)
class Continuation:
    """Ids whose log-likelihood after a context is asked for; neither is empty."""

    context: tuple[int, ...]
    ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Likelihood:
    """What a model makes of a continuation."""

    logprob: float
    """Natural logarithm of its probability."""
    greedy: bool
    """Whether greedy decoding would have written it."""


def score(session: Session, requests: Sequence[Continuation]) -> Iterator[tuple[int, Likelihood]]:
    """Score continuations one question at a time, over one cache.

    Questions come in the order of their contexts' ids, so that neighbours share the longest beginnings, worked
    examples among them, and only what differs is computed.

    Yields:
        The request's index and its score.

    Raises:
        ZooError: the model's numbers are not finite, or a text does not fit the context.
    """
    cache = session.new_cache()
    for context, options in questions(requests):
        for ids, likelihood in _question(session, cache, context, list(options)):
            for index in options[ids]:
                yield index, likelihood


def questions(
    requests: Sequence[Continuation],
) -> list[tuple[tuple[int, ...], dict[tuple[int, ...], list[int]]]]:
    """Gather requests by context; contexts in the order of their ids, each with its continuations' indexes."""
    gathered: dict[tuple[int, ...], dict[tuple[int, ...], list[int]]] = defaultdict(lambda: defaultdict(list))
    for index, one in enumerate(requests):
        gathered[one.context][one.ids].append(index)
    return sorted(gathered.items())


def _question(
    session: Session, cache: KVCache, context: tuple[int, ...], options: list[tuple[int, ...]]
) -> Iterator[tuple[tuple[int, ...], Likelihood]]:
    """Score the options of one context."""
    last = len(context) - 1
    short = [one for one in options if len(one) == 1]
    if short:
        logits = _after(session, cache, context)
        for single in short:
            yield single, rate([logits], single)
    elif last >= 2:
        fill(session, cache, context[:last])
    else:
        cache.keep(cache.common(context[:last]))
    for one in options:
        if len(one) > 1:
            cache.keep(min(last, len(cache)))
            rest = (context + one[:-1])[len(cache) :]
            yield one, rate(advance(session, cache, rest, len(one)), one)


def _after(session: Session, cache: KVCache, context: tuple[int, ...]) -> NDArray[np.float32]:
    """Compute the logits after a context, float32 (1, vocab)."""
    if len(context) == 1:
        cache.keep(0)
        # The second token is there to make two; no position sees what comes after it.
        both = [one.copy() for one in advance(session, cache, [context[0], context[0]], 2)]
        cache.keep(1)
        return np.concatenate(both)[:1]
    cache.keep(min(cache.common(context), len(context) - 2))
    (logits,) = advance(session, cache, context[len(cache) :], 1)
    return logits


def fill(session: Session, cache: KVCache, ids: Sequence[int]) -> None:
    """Bring a cache to hold just ``ids``, two or more, computing what it does not hold yet."""
    held = cache.common(ids)
    cache.keep(min(held, len(ids) - 2) if held < len(ids) else held)
    if len(cache) < len(ids):
        for _ in advance(session, cache, ids[len(cache) :], 0):
            pass


def advance(session: Session, cache: KVCache, ids: Sequence[int], keep: int) -> Iterator[NDArray[np.float32]]:
    """Compute ids, two or more, after what a cache holds, in steps that bound memory.

    Yields:
        Logits of the last ``keep`` positions in blocks, float32 (positions, vocab), each valid until the next.
    """
    most = max(4, LOGITS_BYTES // (4 * session.vocab_size))
    at = 0
    while at < len(ids):
        size = min(session.chunk(len(cache)), len(ids) - at)
        size -= max(0, at + size - max(at, len(ids) - keep) - most)
        if len(ids) - at - size == 1:
            size -= 1
        wanted = max(0, at + size - max(at, len(ids) - keep))
        logits = session.forward(cache, ids[at : at + size], keep=max(1, wanted))
        at += size
        if wanted:
            yield logits


def rate(blocks: Iterator[NDArray[np.float32]] | Sequence[NDArray[np.float32]], ids: Sequence[int]) -> Likelihood:
    """Sum up the log-probabilities of ids, one row of logits each.

    Raises:
        ZooError: a logit is no finite number.
    """
    total, greedy, at = 0.0, True, 0
    for logits in blocks:
        wanted = np.asarray(ids[at : at + len(logits)])
        rows = np.arange(len(wanted))
        best = logits.argmax(axis=-1)
        peak = logits[rows, best]
        if not np.isfinite(peak).all():
            raise ZooError("the model computed logits that are no numbers; verify the package: zoo verify")
        # Natural log of the softmax: less the peak, so that nothing overflows.
        norm = np.log(np.exp(logits - peak[:, None]).sum(axis=-1, dtype=np.float64))
        total += float((logits[rows, wanted].astype(np.float64) - peak - norm).sum())
        greedy = greedy and bool((best == wanted).all())
        at += len(logits)
    return Likelihood(total, greedy)
