"""``/tokenize`` and ``/detokenize``, as vLLM has them: texts and conversations to ids, and ids to text."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field, ValidationError

from zoo_server.errors import ApiError, invalid
from zoo_server.pool import Running
from zoo_server.schemas import ChatRequest, RequestPart, TokenId
from zoo_server.turn import Turn

if TYPE_CHECKING:
    from zoo_server.answer import Service


MANY = 2**62
"""Tokens: however many there are."""


class TokenizeRequest(RequestPart):
    """``POST /tokenize``: a prompt, or the messages of a conversation."""

    model: str | None = None
    """The only model, where there is but one."""
    prompt: str | None = None
    messages: list[dict[str, Any]] | None = None
    add_special_tokens: bool | None = None
    add_generation_prompt: bool | None = None
    continue_final_message: bool | None = None
    tools: list[dict[str, Any]] | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    return_token_strs: bool | None = None

    def check(self) -> None:
        """Refuse what is neither a text nor a conversation."""
        super().check()
        if (self.prompt is None) == (self.messages is None):
            raise ApiError(400, "give either a prompt or messages", code="invalid_value", param="prompt")

    def encode(self, running: Running) -> list[int]:
        """Turn it into ids."""
        if self.messages is not None:
            return Turn(self._as_chat(running)).encode(running, MANY)
        return running.tokens.encode_text(self.prompt or "", special=self.add_special_tokens is not False)

    def _as_chat(self, running: Running) -> ChatRequest:
        names = ("messages", "tools", "chat_template_kwargs", "continue_final_message", "add_generation_prompt")
        given = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        try:
            body = ChatRequest.model_validate({"model": running.model.name, **given})
        except ValidationError as error:
            raise invalid(error) from None
        body.check()
        return body


class DetokenizeRequest(RequestPart):
    """``POST /detokenize``."""

    model: str | None = None
    tokens: Annotated[list[TokenId], Field(max_length=2**20)]

    def decode(self, running: Running) -> str:
        """Turn the ids into text."""
        tokenizer, size = running.engine.tokenizer, running.engine.vocab_size
        if tokenizer is None:
            raise ApiError(400, "this model has no tokenizer", code="no_tokenizer", param="model")
        largest = max(self.tokens, default=0)
        if largest >= size:
            message = f"token id {largest} is not in the vocabulary of {size}"
            raise ApiError(400, message, code="invalid_value", param="tokens")
        return tokenizer.decode(self.tokens, skip_special=False)


async def tokenize(service: Service, body: TokenizeRequest) -> dict[str, Any]:
    """Turn a text or a conversation into ids."""
    running = await service.pool.lease(_name(service, body.model))
    try:
        ids = await asyncio.get_running_loop().run_in_executor(running.text.threads, body.encode, running)
        answer = {"count": len(ids), "max_model_len": running.scheduler.context, "tokens": ids, "token_strs": None}
        tokenizer = running.engine.tokenizer
        if body.return_token_strs and tokenizer is not None:
            answer["token_strs"] = [tokenizer.token(token) for token in ids]
        return answer
    finally:
        running.release()


async def detokenize(service: Service, body: DetokenizeRequest) -> dict[str, Any]:
    """Turn ids into text."""
    running = await service.pool.lease(_name(service, body.model))
    try:
        loop = asyncio.get_running_loop()
        return {"prompt": await loop.run_in_executor(running.text.threads, body.decode, running)}
    finally:
        running.release()


def _name(service: Service, name: str | None) -> str:
    """Say which model is meant."""
    if name is not None:
        return service.pool.find(name).name
    models = service.pool.models
    if len(models) > 1:
        raise ApiError(400, "several models are served: name one", code="missing_field", param="model")
    return models[0].name
