"""A decoder that ranks: it is asked whether a document answers a query, and its next token is compared, yes with no."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zoo.contracts import Ability
from zoo.declarations.embedding import Judging
from zoo.embedding.engine import ranked
from zoo.embedding.queue import TextQueue
from zoo.embedding.results import Ranked
from zoo.embedding.tokens import TextTokens
from zoo.engine.text import check_text
from zoo.errors import UsageError, ZooError


class Judge:
    """An engine with ``logits`` and a tokenizer, which can ``rank`` too; in everything else it is that engine.

    Served, it ranks and does nothing else: its ``queue`` takes documents.

    Args:
        engine: the decoder.
        judging: how it is asked.
        longest: tokens of a prompt at most; None for as many as its context has.

    Raises:
        ZooError: its tokenizer lacks one of the two tokens.
    """

    def __init__(self, engine: Any, judging: Judging, longest: int | None = None) -> None:
        self._engine, self._judging = engine, judging
        self._longest = min(longest or engine.context_length, engine.context_length)
        ids = [engine.tokenizer.id_of(token) for token in (judging.yes_token, judging.no_token)]
        for token, index in zip((judging.yes_token, judging.no_token), ids, strict=True):
            if index is None:
                raise ZooError(f"{engine.package.name}: its tokenizer has no token {token!r}, which ranking compares")
        self._yes, self._no = ids
        self.abilities: frozenset[Ability] = engine.abilities | {"scores"}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def queue(self, *, waiting: int | None = None, **_: Any) -> TextQueue:
        """Begin to take the documents of many requests; see ``TextQueue``."""
        return TextQueue(self.scores, self._longest, waiting)

    def rank(
        self, query: str, documents: Sequence[str], *, truncate: bool = False, instruction: str | None = None
    ) -> list[Ranked]:
        """Score documents beside a query, the best first; see ``prepare_pairs``."""
        pairs = self.prepare_pairs(query, documents, truncate=truncate, instruction=instruction)
        return ranked(self.scores(pairs), pairs)

    def prepare_pairs(
        self, query: str, documents: Sequence[str], *, truncate: bool = False, instruction: str | None = None
    ) -> list[TextTokens]:
        """Write the prompts for ``scores``.

        Args:
            truncate: cut documents that are too long beside the query; otherwise that is an error.
            instruction: what is asked for; by default what the model was trained with.

        Raises:
            UsageError: a text is empty.
            ZooError: a prompt is too long.
        """
        for what, text in (("the query", query), *((f"document {at}", one) for at, one in enumerate(documents))):
            if not text:
                raise UsageError(f"{what} is empty")
            check_text(text)
        return [self._prompt(query, one, at, truncate, instruction) for at, one in enumerate(documents)]

    def scores(self, pairs: Sequence[TextTokens]) -> NDArray[np.float32]:
        """Compute the share of yes in yes and no after each prompt, (pairs,)."""
        logits = [self._engine.logits(pair.ids, 1)[-1] for pair in pairs]
        apart = np.array([np.float64(row[self._no]) - np.float64(row[self._yes]) for row in logits])
        return np.asarray(1 / (1 + np.exp(apart)), np.float32)

    def _prompt(self, query: str, document: str, index: int, truncate: bool, instruction: str | None) -> TextTokens:
        """Write a prompt whose document, if anything, is cut at its end."""
        before, _, after = self._judging.template.partition("{document}")
        before = before.replace("{instruction}", instruction or self._judging.instruction).replace("{query}", query)
        encode = self._engine.tokenizer.encode
        tail = encode(after, special=False)
        head, whole = encode(before, special=False), encode(before + document, special=False)
        room = self._longest - len(tail)
        if len(whole) > room and (not truncate or len(head) >= room):
            taken = f"{self._engine.package.name} takes {room}; cut it, or let it be cut (truncate)"
            raise ZooError(f"document {index} and the query have {len(whole)} tokens; {taken}")
        ids = [*whole[:room], *tail]
        return TextTokens(ids, [0] * len(ids), len(whole) > room)
