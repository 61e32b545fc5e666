"""Prompt lookup: guess the next tokens from what followed the same few tokens earlier in the text.

Source of the idea: speculative decoding (arXiv 2211.17192) with n-grams of the text itself as the draft model
(https://github.com/apoorvumang/prompt-lookup-decoding). The model judges every guess, so a wrong one costs time only.
"""

from __future__ import annotations

from collections.abc import Sequence

LONGEST, SHORTEST = 3, 2
"""Tokens that must be the same before a guess is made; longer matches are asked first."""
FIRST, MOST = 4, 15
"""Tokens of the first guess, and of any; with the token before them a step of 16, past which kernels gain nothing."""
PATIENCE = 2
"""Guesses in a row that may be all wrong before guessing rests; each time it rests twice as long."""
LONGEST_REST = 32


class PromptLookup:
    """Guesses for one sequence.

    Args:
        ids: the prompt.
    """

    def __init__(self, ids: Sequence[int] = ()) -> None:
        self._ids: list[int] = []
        self._after: list[dict[tuple[int, ...], int]] = [{} for _ in range(SHORTEST, LONGEST + 1)]
        self._size = FIRST
        self._wrong = 0
        self._rest, self._resting = 1, 0
        for token in ids:
            self.add(token)

    def add(self, token: int) -> None:
        """Take the next token of the text."""
        ids = self._ids
        # What ends before this token is known to be followed by it; what ends with it would only find itself.
        for size, table in enumerate(self._after, SHORTEST):
            if len(ids) >= size:
                table[tuple(ids[-size:])] = len(ids)
        ids.append(token)

    def propose(self, most: int) -> list[int]:
        """Guess what follows, at most ``most`` tokens; nothing where the text gives no hint, or hints were bad."""
        if self._resting:
            self._resting -= 1
            return []
        most = min(most, self._size)
        if most < 1:
            return []
        for size in range(LONGEST, SHORTEST - 1, -1):
            start = self._after[size - SHORTEST].get(tuple(self._ids[-size:]))
            if start is not None:
                return self._ids[start : start + most]
        return []

    def learn(self, proposed: int, accepted: int) -> None:
        """Take note of how many tokens of a guess were right."""
        if accepted == proposed:
            self._size = min(MOST, self._size * 2)
        else:
            self._size = max(2, accepted + 1)
        if accepted:
            self._wrong, self._rest = 0, 1
            return
        self._wrong += 1
        if self._wrong >= PATIENCE:
            self._resting, self._rest = self._rest, min(LONGEST_REST, self._rest * 2)
