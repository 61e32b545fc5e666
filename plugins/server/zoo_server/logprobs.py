"""Log probabilities in the shapes of OpenAI's two protocols: tokens, their bytes, and where each begins in the text."""

from __future__ import annotations

import codecs
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from zoo_server.tokens import TokenTable

if TYPE_CHECKING:
    from zoo.engine.logprobs import TokenLogprob


class Offsets:
    """Follows a text token by token, and says at which character each token begins.

    A token that goes on with a character begun before it begins where that character does.

    Args:
        text: what the first tokens are to be, where they may say more: some tokenizers put a space before a text.
        shown: the bytes of those tokens together.
    """

    def __init__(self, text: str = "", shown: bytes = b"") -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        whole = shown.decode("utf-8", "replace")
        self._at = len(text) - len(whole) if text and whole.endswith(text) else 0

    def add(self, shown: bytes) -> int:
        """Take the bytes that a token adds to the text; return where it begins."""
        start = self._at
        self._at += len(self._decoder.decode(shown))
        return max(0, start)


def chat_logprobs(logprobs: Sequence[TokenLogprob], tokens: TokenTable) -> dict[str, Any]:
    """Write log probabilities as ``/v1/chat/completions`` does."""
    return {
        "content": [
            _token(entry.token_id, entry.logprob, tokens)
            | {"top_logprobs": [_token(token, value, tokens) for token, value in entry.top]}
            for entry in logprobs
        ],
        "refusal": None,
    }


def completion_logprobs(
    logprobs: Sequence[TokenLogprob], offsets: Offsets, tokens: TokenTable, *, first: int | None = None
) -> dict[str, Any]:
    """Write log probabilities as ``/v1/completions`` does.

    Args:
        offsets: goes on where the choice's text is.
        first: a token before them that has no log probability, since nothing comes before it.
    """
    ids = ([] if first is None else [first]) + [entry.token_id for entry in logprobs]
    none: list[None] = [] if first is None else [None]
    return {
        "tokens": [tokens.text(token)[0] for token in ids],
        "token_logprobs": [*none, *(entry.logprob for entry in logprobs)],
        "top_logprobs": [
            *none, *({tokens.text(token)[0]: value for token, value in entry.top} or None for entry in logprobs)
        ],
        "text_offset": [offsets.add(tokens.shown(token)) for token in ids],
    }  # fmt: skip


def _token(token: int, logprob: float, tokens: TokenTable) -> dict[str, Any]:
    text, raw = tokens.text(token)
    return {"token": text, "logprob": logprob, "bytes": raw}
