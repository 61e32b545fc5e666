"""Texts of about so many tokens for a server whose tokenizer is not at hand: common words, sized by what it counts."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import numpy as np

EVERY = 9
"""The shorter of the two texts that are counted has every so manieth word once, the longer one each."""
_COMMON = (
    "the time year people way day man thing woman life child world school state family student group country "
    "problem hand part place case week company system program question work government number night point home "
    "water room mother area money story fact month lot right study book eye job word business issue side kind "
    "head house service friend father power hour game line end member law car city community name president team "
    "minute idea body information back parent face other level office door health person art war history party "
    "result change morning reason research girl guy moment air teacher force education "
)
WORDS = tuple(_COMMON.split())


@dataclass(frozen=True, slots=True)
class Words:
    """Writes texts of common words."""

    each: float = 1.0
    """Tokens of a word, on average."""
    before: float = 0.0
    """Tokens that the server counts before a text."""

    def text(self, random: np.random.Generator, tokens: int) -> str:
        """Write a text of about ``tokens`` tokens."""
        count = max(1, round((tokens - self.before) / self.each))
        return " ".join(random.choice(WORDS, count))


async def count_words(count: Callable[[str], Awaitable[int | None]]) -> Words | None:
    """Find out how many tokens a word has, from two texts.

    Args:
        count: text → its tokens, or None where nobody says.

    Returns:
        None where nobody says.
    """
    short = WORDS[::EVERY]
    few, many = await count(" ".join(short)), await count(" ".join(WORDS))
    if few is None or many is None or many <= few:
        return None
    each = (many - few) / (len(WORDS) - len(short))
    return Words(each, max(0.0, few - len(short) * each))
