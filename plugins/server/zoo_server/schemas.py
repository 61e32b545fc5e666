"""Requests of OpenAI's protocol, checked to the last field.

What is not supported is refused unless its value asks for nothing; what only concerns bookkeeping is ignored; a field
that nobody knows is an error that offers the nearest ones. Fields that OpenAI does not have are the usual ones of other
servers, vLLM's names: ``top_k``, ``min_p``, ``repetition_penalty``, ``stop_token_ids``, ``ignore_eos`` and others.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    ValidatorFunctionWrapHandler,
    field_validator,
)

from zoo.engine.sampling import REPETITION_PENALTIES
from zoo.errors import unknown
from zoo.structured import Structure
from zoo_server.errors import ApiError
from zoo_server.formats import KINDS, ResponseFormat, StructuredOutputs, choose_structure
from zoo_server.messages import Message
from zoo_server.tools import ToolChoice, Tools

MAX_STOPS = 16
MAX_TOKENS = 2**31 - 1
IGNORED = frozenset(
    {
        "user",
        "metadata",
        "store",
        "service_tier",
        "safety_identifier",
        "prompt_cache_key",
        "prompt_cache_retention",
        "skip_special_tokens",
    }
)
NEUTRAL: dict[str, tuple[Any, ...]] = {
    "suffix": (None, ""),
    "best_of": (None, 1),
    "functions": (None, []),
    "function_call": (None, "none", "auto"),
    "modalities": (None, ["text"]),
    "audio": (None,),
    "prediction": (None,),
    "verbosity": (None, "medium"),
    "web_search_options": (None,),
    "min_tokens": (None, 0),
}
"""Fields that are not supported → values that ask for nothing."""
HINT = "/openapi.json lists the known ones"
Stop = Annotated[str, StringConstraints(min_length=1, max_length=1000)]
TokenId = Annotated[int, Field(ge=0, le=MAX_TOKENS)]


class RequestPart(BaseModel):
    """What bodies have in common: strict types, finite numbers, no field that nobody knows."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False, frozen=True, extra="allow", hide_input_in_errors=True)
    neutral: ClassVar[dict[str, tuple[Any, ...]]] = {}
    """Fields that are not supported → values that ask for nothing."""
    ignored: ClassVar[frozenset[str]] = frozenset()
    """Fields that only concern bookkeeping."""

    def check(self) -> None:
        """Refuse fields that mean nothing here.

        Raises:
            ApiError: the first of them.
        """
        for name, value in (self.model_extra or {}).items():
            if name in self.ignored or (name in self.neutral and value in self.neutral[name]):
                continue
            if name in self.neutral:
                raise ApiError(400, f"{name[:100]} is not supported", code="unsupported_parameter", param=name[:100])
            message = str(unknown("parameter", name[:100], type(self).model_fields, HINT))
            raise ApiError(400, message, code="unknown_parameter", param=name[:100])


class StreamOptions(RequestPart):
    include_usage: bool = False


class Body(RequestPart):
    """Fields of both kinds of completions."""

    neutral = NEUTRAL
    ignored = IGNORED

    model: Annotated[str, StringConstraints(min_length=1, max_length=300)]
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: Annotated[int, Field(ge=1, le=128)] | None = None
    max_tokens: Annotated[int, Field(ge=0, le=MAX_TOKENS)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=-1, le=MAX_TOKENS)] | None = None
    repetition_penalty: Annotated[float, Field(ge=REPETITION_PENALTIES[0], le=REPETITION_PENALTIES[1])] | None = None
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    stop: Annotated[list[Stop], Field(fail_fast=True, max_length=MAX_STOPS)] | None = None
    stop_token_ids: Annotated[list[TokenId], Field(fail_fast=True, max_length=64)] | None = None
    include_stop_str_in_output: bool | None = None
    min_p: Annotated[float, Field(ge=0, le=1)] | None = None
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    logit_bias: Annotated[dict[str, Annotated[float, Field(ge=-100, le=100)]], Field(max_length=1024)] | None = None
    """Token id, as text because JSON's keys are texts → what is added to its logit."""
    ignore_eos: bool | None = None
    response_format: ResponseFormat | None = None
    guided_json: dict[str, Any] | bool | str | None = None
    guided_regex: str | None = None
    guided_grammar: str | None = None
    guided_choice: Annotated[list[str], Field(fail_fast=True)] | None = None
    structured_outputs: StructuredOutputs | None = None

    @field_validator("stop", mode="before")
    @classmethod
    def _one_stop(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value

    def check(self) -> None:
        """Refuse fields that mean nothing here, or contradict each other."""
        super().check()
        if self.max_tokens == 0 and not self.may_be_empty:
            message = "max_tokens must be 1 or more"
            raise ApiError(400, message, code="invalid_value", param="max_tokens")
        self.biases()
        self.structure()
        if self.stream_options is not None and not self.stream:
            raise ApiError(400, "stream_options needs stream: true", code="invalid_value", param="stream_options")

    def biases(self) -> tuple[tuple[int, float], ...]:
        """List the biases by token id.

        Raises:
            ApiError: a key is not a token id.
        """
        for token in self.logit_bias or {}:
            if not (token.isascii() and token.isdigit() and len(token) <= 10):
                message = f"logit_bias: {token[:40]!r} is not a token id; /tokenize gives the ids of a text"
                raise ApiError(400, message, code="invalid_value", param="logit_bias")
        return tuple((int(token), float(bias)) for token, bias in (self.logit_bias or {}).items())

    def structure(self) -> tuple[str, Structure] | None:
        """Say which form the answer is to have, and by which field.

        Raises:
            ApiError: there are several.
        """
        given = {"response_format": self.response_format} | {name: getattr(self, name) for name in KINDS}
        return choose_structure(given, self.structured_outputs)

    @property
    def may_be_empty(self) -> bool:
        """Whether an answer of no tokens means something."""
        return False

    @property
    def choices(self) -> int:
        """How many answers to each prompt."""
        return self.n or 1


RESERVED = frozenset({"messages", "tools", "documents", "add_generation_prompt", "continue_final_message"})
"""Variables of a chat template that follow from other fields."""
TemplateName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_]\w{0,63}$")]
Ids = Annotated[list[TokenId], Field(fail_fast=True, min_length=1)]


class CompletionRequest(Body):
    """``POST /v1/completions``."""

    prompt: str | Annotated[list[str], Field(fail_fast=True)] | Ids | Annotated[list[Ids], Field(fail_fast=True)]
    logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    echo: bool | None = None

    @property
    def may_be_empty(self) -> bool:
        return bool(self.echo)

    @field_validator("prompt", mode="wrap")
    @classmethod
    def _one_of_four(cls, value: Any, check: ValidatorFunctionWrapHandler) -> Any:
        try:
            return check(value)
        except ValidationError:
            raise ValueError(
                "it must be a text, a list of texts, a list of token ids, or a list of such lists, and not empty"
            ) from None

    def prompts(self) -> list[str | list[int]]:
        """List the prompts, each text or token ids."""
        given = self.prompt
        if isinstance(given, str):
            return [given]
        if given and isinstance(given[0], int):
            return [[item for item in given if isinstance(item, int)]]
        return [item for item in given if not isinstance(item, int)]


class ChatRequest(Body):
    """``POST /v1/chat/completions``."""

    tools: Tools | None = None
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    """Whether an answer may have several calls; it may unless this is false."""
    chat_template_kwargs: Annotated[dict[TemplateName, Any], Field(max_length=64)] | None = None
    """Variables of the chat template, such as ``enable_thinking``."""
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high", "xhigh"] | None = None
    continue_final_message: bool | None = None
    """Go on with the last message, the assistant's, instead of answering it."""
    add_generation_prompt: bool | None = None
    messages: Annotated[list[Message], Field(fail_fast=True, min_length=1, max_length=4096)]
    max_completion_tokens: Annotated[int, Field(ge=1, le=MAX_TOKENS)] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None

    def check(self) -> None:
        """Refuse fields that mean nothing here, or contradict each other."""
        super().check()
        called: set[str | None] = set()
        for at, message in enumerate(self.messages):
            message.check(at, called)
            called.update(call.id for call in message.tool_calls or ())
        reserved = RESERVED.intersection(self.chat_template_kwargs or {})
        if reserved:
            said = f"chat_template_kwargs: {min(reserved)} has a field of its own"
            raise ApiError(400, said, code="invalid_value", param="chat_template_kwargs")
        self._check_end()
        if self.top_logprobs and not self.logprobs:
            raise ApiError(400, "top_logprobs needs logprobs: true", code="invalid_value", param="top_logprobs")

    def _check_end(self) -> None:
        """Refuse to go on with a message that is not the assistant's, or to do both."""
        if not self.continue_final_message:
            return
        last = self.messages[-1]
        if last.role != "assistant" or not last.content or last.tool_calls:
            message = "continue_final_message: the last message must be the assistant's, with the text to go on with"
            raise ApiError(400, message, code="invalid_value", param="continue_final_message")
        if self.add_generation_prompt:
            message = "continue_final_message goes on with the last message, add_generation_prompt begins one after it"
            raise ApiError(400, message, code="invalid_value", param="add_generation_prompt")
