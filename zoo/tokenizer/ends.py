"""Which token ends the assistant's turn: read off what the chat template writes after one.

A fine-tune for chat often keeps the ``eos_token_id`` of its base model, while its template closes turns with another
token. Answers then run on into a turn of the user's that the model makes up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from zoo.errors import ZooError

ANSWER = "Zebra-4711"
"""The text of the assistant's turn: no template writes it by itself."""
_TURNS = (
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": ANSWER},
    {"role": "user", "content": "Go"},
)

Render = Callable[[Sequence[Mapping[str, Any]]], str]
"""Writes a conversation through a chat template, without asking for another answer."""


def end_of_turn(render: Render, tokens: Iterable[str]) -> str | None:
    """Find the token that a template writes right behind the assistant's answer.

    A conversation that ends with the answer counts first: behind earlier answers a template may only part messages.

    Args:
        render: the template.
        tokens: texts of the tokenizer's added tokens.

    Returns:
        The token's text; None where the template refuses such a conversation or writes text there.
    """
    by_length = sorted((token for token in tokens if token.strip()), key=len, reverse=True)
    behind = (_token_behind(render, turns, by_length) for turns in (_TURNS[:2], _TURNS))
    return next((token for token in behind if token is not None), None)


def _token_behind(render: Render, turns: Sequence[Mapping[str, Any]], by_length: Sequence[str]) -> str | None:
    try:
        text = render(turns)
    except ZooError:
        return None
    _, answer, rest = text.rpartition(ANSWER)
    if not answer:
        return None
    rest = rest.lstrip()
    return next((token for token in by_length if rest.startswith(token.strip())), None)
