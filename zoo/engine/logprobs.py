"""Probabilities of tokens, as the model gives them before any sampling setting."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """A token's natural logarithm of probability, and those of the likeliest tokens in its place, best first."""

    token_id: int
    logprob: float
    top: tuple[tuple[int, float], ...] = ()


def token_logprob(logits: NDArray[np.float32], token: int, top: int) -> TokenLogprob:
    """Compute a token's log probability.

    Args:
        logits: float32 (vocab,).
        top: how many of the likeliest to name too.
    """
    peak = logits.max()
    total = float(peak) + float(np.log(np.exp(logits - peak).sum(dtype=np.float64)))
    best: tuple[tuple[int, float], ...] = ()
    if top > 0:
        top = min(top, len(logits))
        some = np.argpartition(logits, -top)[-top:]
        some = some[np.argsort(-logits[some], kind="stable")]
        best = tuple((int(one), float(logits[one]) - total) for one in some)
    return TokenLogprob(token, float(logits[token]) - total, best)


def text_logprobs(blocks: Iterable[NDArray[np.float32]], ids: Sequence[int], top: int) -> Iterator[TokenLogprob]:
    """Compute the log probabilities of a text's tokens, all but the first.

    Args:
        blocks: logits of its positions in order, float32 (positions, vocab) each.
        ids: the text.
        top: how many of the likeliest to name too.
    """
    at = 1
    for block in blocks:
        for row in block[: len(ids) - at]:
            yield token_logprob(row, ids[at], top)
            at += 1
