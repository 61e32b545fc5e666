"""The assistant's next turn: the prompt that asks for it, what it may be, and how it is read."""

from __future__ import annotations

import json
import re
import secrets
import string
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from zoo.conversation.grammar import GrammarWriter
from zoo.conversation.parts import AnswerPart
from zoo.conversation.reader import AnswerReader
from zoo.declarations.conversation import Manners, Thinking
from zoo.structured import Structure
from zoo_server.dialect import structure_errors
from zoo_server.errors import ApiError
from zoo_server.tools import Offer

if TYPE_CHECKING:
    from zoo.contracts import ServedEngine
    from zoo.contracts.constraint import Constraint
    from zoo_server.pool import Running
    from zoo_server.schemas import ChatRequest

TAIL = 32
"""Tokens at a prompt's end that may begin the model's thoughts."""
LETTERS = string.ascii_letters + string.digits


class Turn:
    """A turn that is asked for.

    Attributes:
        messages: the conversation, as templates expect it.
        visible: special tokens that mark thoughts or calls; known once the prompt is encoded.
    """

    def __init__(self, body: ChatRequest) -> None:
        self._body = body
        self._offer = Offer(body.tools, body.tool_choice)
        self.messages = [message.plain() for message in body.messages]
        self.visible: frozenset[int] = frozenset()
        self._manners = Manners()
        self._opened = False

    def encode(self, running: Running, limit: int) -> list[int]:
        """Turn the conversation into ids.

        Raises:
            ApiError: the model takes no tools, cannot do as it is asked to, or the prompt is too long.
        """
        engine, manners = running.engine, running.model.manners
        if self._offer.is_open and manners.tools is None:
            message = (
                "this model does not support tools: its chat template has none, or no family declares how it writes "
                "calls; leave tools out, or set tool_choice to none"
            )
            raise ApiError(400, message, code="unsupported_parameter", param="tools")
        self._manners = Manners(tools=manners.tools if self._offer.is_open else None, thinking=manners.thinking)
        variables = self._variables(engine.chat_templates.values(), manners.thinking)
        goes_on = bool(self._body.continue_final_message)
        messages = as_template_reads(self.messages, "\n".join(engine.chat_templates.values()))
        ids = running.tokens.encode_chat(
            messages, limit, goes_on=goes_on, tools=self._offer.plain(), variables=variables
        )
        self.visible = frozenset(
            token for text, token in _special(engine).items() if any(text in marker for marker in self._manners.markers)
        )
        if manners.thinking is not None and engine.tokenizer is not None:
            tail = engine.tokenizer.decode(ids[-TAIL:], skip_special=False)
            self._opened = tail.rstrip().endswith(manners.thinking.start)
        return ids

    def _variables(self, templates: Sequence[str] | Any, thinking: Thinking | None) -> Mapping[str, Any]:
        """Name the template's variables, among them those that turn thinking on, off, up or down."""
        variables = dict(self._body.chat_template_kwargs or {})
        effort = self._body.reasoning_effort
        if effort is None:
            return variables
        if any("reasoning_effort" in template for template in templates):
            variables.setdefault("reasoning_effort", effort)
        elif thinking is not None and thinking.switch is not None:
            variables.setdefault(thinking.switch, effort != "none")
        elif (thinking is None) != (effort == "none"):
            does = "does not think" if thinking is None else "always thinks"
            message = f"reasoning_effort is {effort!r}, and this model {does}"
            raise ApiError(400, message, code="unsupported_parameter", param="reasoning_effort")
        return variables

    def constrain(self, running: Running, asked: tuple[str, Structure] | None) -> Constraint | None:
        """Say what the answer may be.

        Args:
            asked: the form of the answer, and the field that asks for it.

        Raises:
            ApiError: nothing can follow it.
        """
        engine, manners = running.engine, self._manners
        required = self._offer.mode == "required"
        if asked is None and not required:
            return None
        with structure_errors("tools" if asked is None or required else asked[0]):
            writer = GrammarWriter(engine.guide.special)
            if manners.tools is None:
                assert asked is not None  # a call that is required needs a model that takes tools
                return engine.guide.compile(writer.form(asked[1], manners.thinking, self._opened), asked[1].kind)
            grammar = writer.calls(
                manners.tools,
                self._offer.tools(),
                self._body.parallel_tool_calls is not False,
                manners.thinking,
                self._opened,
                None if required or asked is None else asked[1],
            )
            return engine.guide.compile(grammar, "tool" if asked is None or required else asked[1].kind)

    def reader(self) -> AnswerReader:
        """Make what takes one answer apart."""
        return AnswerReader(self._manners.thinking, self._opened, self._manners.tools, self._offer.names)

    def kept(self, parts: list[AnswerPart]) -> list[AnswerPart]:
        """Leave out calls after the first, where one is all that was asked for."""
        if self._body.parallel_tool_calls is not False:
            return parts
        return [part for part in parts if part.call == 0]


def as_template_reads(messages: Sequence[dict[str, Any]], template: str) -> list[dict[str, Any]]:
    """Write calls of tools as a template reads them.

    Most take arguments as an object, and a call without text as an empty one. Some put arguments together as text, and
    some ask whether the content is none.
    """
    joined, asks = bool(_JOINED.search(template)), bool(_IS_NONE.search(template))
    return [
        _call_as_read(message, joined, asks) if message.get("tool_calls") and (joined or asks) else message
        for message in messages
    ]


_JOINED = re.compile(r"""\barguments['"]?\]?\s*(?:\+|~)""")
_IS_NONE = re.compile(r"""\bcontent['"]?\]?\s+is\s+none\b""")


def _call_as_read(message: dict[str, Any], joined: bool, asks: bool) -> dict[str, Any]:
    calls = message["tool_calls"]
    if joined:
        calls = [{**call, "function": {**call["function"], "arguments": _as_text(call)}} for call in calls]
    return {**message, "tool_calls": calls, "content": message["content"] or (None if asks else "")}


def _as_text(call: dict[str, Any]) -> str:
    arguments = call["function"]["arguments"]
    return arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)


def _special(engine: ServedEngine) -> dict[str, int]:
    """Name the special tokens of a vocabulary."""
    tokenizer = engine.tokenizer
    ids = tokenizer.special_ids if tokenizer is not None else ()
    named = {tokenizer.token(token): token for token in ids} if tokenizer is not None else {}
    return {text: token for text, token in named.items() if text}


def call_id() -> str:
    """Make the id of a call: nine letters and digits, since some templates take no other."""
    return "".join(secrets.choice(LETTERS) for _ in range(9))
