"""Conversations to prompts: the package's chat template, rendered in a sandbox.

The names that a template may use, and the whitespace rules, are those of transformers' ``apply_chat_template``.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from zoo.errors import UsageError, ZooError
from zoo.tokenizer.files import in_folder, read_files
from zoo.tokenizer.templates import DEFAULT, chat_templates

Message = Mapping[str, Any]


def find_templates(folder: Path) -> dict[str, str]:
    """Find a package's chat templates by name; ``default`` is the one for a conversation without tools."""
    companion = in_folder(folder)
    return chat_templates(companion, read_files(companion, folder.name))


def find_template(folder: Path) -> str | None:
    """Find the template of a conversation without tools."""
    return find_templates(folder).get(DEFAULT)


def special_tokens(folder: Path, of_class: Mapping[str, str | None] | None = None) -> dict[str, str]:
    """Name the special tokens that a template may write; see ``TokenizerFiles.special_tokens``."""
    return read_files(in_folder(folder), folder.name).special_tokens(of_class)


def render(
    template: str,
    messages: Sequence[Message],
    tokens: Mapping[str, str],
    *,
    ask: bool = True,
    tools: Sequence[Mapping[str, Any]] | None = None,
    variables: Mapping[str, Any] | None = None,
) -> str:
    """Write a conversation as the prompt that asks for the assistant's next turn.

    Args:
        messages: each with ``role`` and ``content``.
        tokens: special tokens by name, which the template writes itself.
        ask: end with what begins the assistant's turn; without, the conversation stands as it is.
        tools: JSON Schemas of the functions that the model may call.
        variables: further names of the template, such as ``enable_thinking``; they win over ``tokens``.

    Raises:
        UsageError: the messages are none.
        ZooError: the template refuses the conversation, is broken, or takes too much.
    """
    from zoo.engine.sandbox import MAX_TEXT

    plain = _plain(messages)
    pieces, size = [], 0
    try:
        environment, compiled = _compile(template)
        environment.begin()
        names = {**tokens, **(variables or {}), "messages": plain, "tools": tools or None, "documents": None}
        for piece in compiled.generate(**names, add_generation_prompt=ask):
            pieces.append(piece)
            size += len(piece)
            if size > MAX_TEXT:
                raise ZooError(f"the chat template writes more than {MAX_TEXT} characters")
    except ZooError:
        raise
    except (Exception, RecursionError) as error:  # a template can raise anything that Python can
        said = " ".join(str(error).split())[:200] or type(error).__name__
        raise ZooError(f"the chat template refuses this conversation: {said}") from None
    return "".join(pieces)


def cut_after_last(text: str, messages: Sequence[Message]) -> str:
    """Cut a rendered conversation off inside its last message, so that an answer goes on with it.

    Raises:
        ZooError: the template wrote the message otherwise than it is.
    """
    last = str(messages[-1]["content"]).strip()
    at = text.rfind(last)
    if not last or at < 0:
        raise ZooError("the chat template does not write the last message as it is, so nothing can go on with it")
    return text[: at + len(last)]


def _plain(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """Copy messages as plain values, whatever objects they were made of; a key that is None is left out."""
    for message in messages:
        known = isinstance(message, Mapping) and isinstance(message.get("role"), str)
        if not known or not ("content" in message or message.get("tool_calls")):
            raise UsageError(f"a message is {{'role': ..., 'content': ...}}, not {str(message)[:100]}")
    kept = [{key: value for key, value in message.items() if value is not None} for message in messages]
    try:
        plain: list[dict[str, Any]] = json.loads(json.dumps(kept))
    except (TypeError, ValueError) as error:
        raise UsageError(f"a message holds what is not JSON: {error}") from None
    return plain


@lru_cache(maxsize=8)
def _compile(template: str) -> tuple[Any, Any]:
    """Compile a template once; return its environment too, which keeps the budget."""
    from jinja2 import TemplateError

    from zoo.engine.sandbox import BoundedSandbox, GenerationBlock

    def raise_exception(message: str) -> None:
        raise TemplateError(message)

    def strftime_now(form: str) -> str:
        return datetime.datetime.now().strftime(form)

    def tojson(
        value: Any,
        ensure_ascii: bool = False,
        indent: int | None = None,
        separators: Any = None,
        sort_keys: bool = False,
    ) -> str:
        return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    environment = BoundedSandbox(
        trim_blocks=True, lstrip_blocks=True, extensions=[GenerationBlock, "jinja2.ext.loopcontrols"]
    )
    environment.globals |= {"raise_exception": raise_exception, "strftime_now": strftime_now}
    environment.filters["tojson"] = tojson
    return environment, environment.from_string(template)
