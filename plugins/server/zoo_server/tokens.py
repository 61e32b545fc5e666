"""Prompts to ids within their limit, and single tokens as OpenAI's log probabilities write them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from zoo.errors import ZooError
from zoo_server.errors import ApiError

if TYPE_CHECKING:
    from zoo.contracts import ServedEngine
    from zoo_server.textwork import TextWork

REPLACEMENT = "\ufffd"


class TokenTable:
    """The tokenizer of a running model, as a server asks it.

    Args:
        work: the process that renders and tokenizes; without, this one does.
    """

    def __init__(self, engine: ServedEngine, work: TextWork | None = None) -> None:
        self._engine, self._work = engine, work

        self._anchor = self._find_anchor()
        self.text = lru_cache(maxsize=4096)(self._text)

    def encode(self, prompt: str | Sequence[int], limit: int) -> list[int]:
        """Turn a prompt into ids.

        Args:
            limit: tokens that it may have.

        Raises:
            ApiError: it has more, or cannot be encoded.
        """
        engine = self._engine
        if not isinstance(prompt, str):
            largest = max(prompt)
            if largest >= engine.vocab_size:
                message = f"token id {largest} is not in the vocabulary of {engine.vocab_size}"
                raise ApiError(400, message, code="invalid_value", param="prompt")
            return self._fit(list(prompt), limit, "prompt")
        self._require_tokenizer("prompt")
        self._check_length(len(prompt), limit, "prompt")
        try:
            return self._fit(self._encode(prompt, special=True), limit, "prompt")
        except ZooError as error:
            raise ApiError(400, str(error), code="invalid_value", param="prompt") from None

    def encode_chat(
        self,
        messages: Sequence[dict[str, Any]],
        limit: int,
        *,
        goes_on: bool = False,
        tools: Sequence[dict[str, Any]] | None = None,
        variables: Mapping[str, Any] | None = None,
    ) -> list[int]:
        """Turn a conversation into ids through the model's chat template.

        Args:
            goes_on: the answer goes on with the last message.
            tools: functions that the model may call.
            variables: further names of the template.

        Raises:
            ApiError: there is no template, it refuses the conversation, or that has more than ``limit`` tokens.
        """
        if self._engine.chat_template is None:
            message = "this model has no chat template: it is a base model; use /v1/completions"
            raise ApiError(400, message, code="no_chat_template", param="messages")
        self._require_tokenizer("messages")
        self._check_length(sum(len(message["content"] or "") for message in messages), limit, "messages")
        try:
            worker = None if self._work is None else self._work.worker
            text = self._engine.chat_text(messages, goes_on=goes_on, tools=tools, variables=variables, worker=worker)
            # A template writes its own special tokens.
            return self._fit(self._encode(text, special=False), limit, "messages")
        except ZooError as error:
            raise ApiError(400, str(error), code="invalid_value", param="messages") from None

    def encode_text(self, text: str, *, special: bool) -> list[int]:
        """Turn text into ids as it is, however many.

        Raises:
            ApiError: it cannot be encoded.
        """
        self._require_tokenizer("prompt")
        try:
            return self._encode(text, special=special)
        except ZooError as error:
            raise ApiError(400, str(error), code="invalid_value", param="prompt") from None

    def _encode(self, text: str, *, special: bool) -> list[int]:
        encoder: Any = self._engine.tokenizer if self._work is None else self._work
        ids: list[int] = encoder.encode(text, special=special)
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """Turn ids into text; a package without a tokenizer has none."""
        tokenizer = self._engine.tokenizer
        return "" if tokenizer is None else tokenizer.decode(ids)

    def _require_tokenizer(self, param: str) -> None:
        if self._engine.tokenizer is None:
            message = "this model has no tokenizer; send token ids to /v1/completions"
            raise ApiError(400, message, code="no_tokenizer", param=param)

    def _check_length(self, characters: int, limit: int, param: str) -> None:
        """Refuse text that no tokenization brings within the limit, before time is spent on tokenizing it."""
        if characters > limit * self._longest:
            raise _too_long(f"more than {characters // self._longest}", limit, param)

    def _fit(self, ids: list[int], limit: int, param: str) -> list[int]:
        if not ids:
            bos = self._engine.package.manifest.recipe.tokens.bos_token_id
            if bos is None:
                message = "the prompt is empty, and the model has no token that begins a text"
                raise ApiError(400, message, code="invalid_value", param=param)
            ids = [bos]
        if len(ids) > limit:
            raise _too_long(str(len(ids)), limit, param)
        return ids

    def _find_anchor(self) -> tuple[list[int], str]:
        """Find a token before which a single one reads as it does inside a text (a leading space stays), and measure
        the longest token.
        """
        self._longest = 1
        tokenizer = self._engine.tokenizer
        if tokenizer is None:
            return [], ""
        self._longest = tokenizer.longest_name
        ids = tokenizer.encode("a", special=False)
        return ids, tokenizer.decode(ids, skip_special=False)

    def _text(self, token: int) -> tuple[str, list[int] | None]:
        """Write a token: its text, and its bytes where they are known."""
        raw = self._bytes(token)
        if raw is None:
            return f"token_id:{token}", None
        try:
            return raw.decode("utf-8"), list(raw)
        except UnicodeDecodeError:  # a part of a character, as OpenAI writes it
            return "bytes:" + "".join(f"\\x{byte:02x}" for byte in raw), list(raw)

    def shown(self, token: int) -> bytes:
        """Say which bytes of an answer's text a token is: none of a special one."""
        tokenizer = self._engine.tokenizer
        return b"" if tokenizer is None or token in tokenizer.special_ids else self._bytes(token) or b""

    def _bytes(self, token: int) -> bytes | None:
        tokenizer = self._engine.tokenizer
        name = tokenizer.token(token) if tokenizer is not None else None
        if tokenizer is None or name is None:
            return None
        raw = tokenizer.bytes_of(token)
        if raw is not None:
            return raw
        ids, text = self._anchor
        text = tokenizer.decode([*ids, token], skip_special=False).removeprefix(text)
        return None if REPLACEMENT in text else text.encode("utf-8")


def _too_long(tokens: str, limit: int, param: str) -> ApiError:
    message = f"the prompt has {tokens} tokens; it may have at most {limit}"
    return ApiError(400, message, code="context_length_exceeded", param=param)
