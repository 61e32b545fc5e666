"""Log probabilities in the shapes of OpenAI's two protocols: tokens, their bytes, and where each begins in the text."""

from __future__ import annotations

import codecs
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zoo.engine.logprobs import TokenLogprob
    from zoo.server.tokens import TokenTable


class Offsets:
    """Follows a text token by token, and says at which character each token begins.

    A token that goes on with a character begun before it begins where that character does.
    """

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self.at = 0

    def add(self, shown: bytes) -> int:
        """Take the bytes that a token adds to the text; return where it begins."""
        start = self.at
        self.at += len(self._decoder.decode(shown))
        return start


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


def completion_logprobs(logprobs: Sequence[TokenLogprob], offsets: Offsets, tokens: TokenTable) -> dict[str, Any]:
    """Write log probabilities as ``/v1/completions`` does; ``offsets`` goes on where the choice's text is."""
    return {
        "tokens": [tokens.text(entry.token_id)[0] for entry in logprobs],
        "token_logprobs": [entry.logprob for entry in logprobs],
        "top_logprobs": [
            {tokens.text(token)[0]: value for token, value in entry.top} if entry.top else None for entry in logprobs
        ],
        "text_offset": [offsets.add(tokens.shown(entry.token_id)) for entry in logprobs],
    }


def _token(token: int, logprob: float, tokens: TokenTable) -> dict[str, Any]:
    text, raw = tokens.text(token)
    return {"token": text, "logprob": logprob, "bytes": raw}
