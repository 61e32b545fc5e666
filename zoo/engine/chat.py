"""Conversations to prompts: the package's chat template, rendered in a sandbox, in a process of its own."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from zoo.errors import UsageError, ZooError
from zoo.package.closed import files_of
from zoo.sources.companions import MAX_COMPANION
from zoo.tokenizer.files import read_files
from zoo.tokenizer.templates import DEFAULT, chat_templates
from zoo.worker.process import Worker

Message = Mapping[str, Any]
RENDER = "zoo.rendering.template:render_here"
RENDER_SECONDS = 5.0
RENDER_MEMORY = 512 * 2**20
"""What a rendering may take; the templates of real models take milliseconds and kilobytes."""


def find_templates(folder: Path) -> dict[str, str]:
    """Find a package's chat templates by name; ``default`` is the one for a conversation without tools."""
    companion = files_of(folder, MAX_COMPANION)
    return chat_templates(companion, read_files(companion, folder.name))


def find_template(folder: Path) -> str | None:
    """Find the template of a conversation without tools."""
    return find_templates(folder).get(DEFAULT)


def special_tokens(folder: Path, of_class: Mapping[str, str | None] | None = None) -> dict[str, str]:
    """Name the special tokens that a template may write; see ``TokenizerFiles.special_tokens``."""
    return read_files(files_of(folder, MAX_COMPANION), folder.name).special_tokens(of_class)


def render(
    template: str,
    messages: Sequence[Message],
    tokens: Mapping[str, str],
    *,
    ask: bool = True,
    tools: Sequence[Mapping[str, Any]] | None = None,
    variables: Mapping[str, Any] | None = None,
    worker: Worker | None = None,
) -> str:
    """Write a conversation as the prompt that asks for the assistant's next turn.

    Args:
        messages: each with ``role`` and ``content``.
        tokens: special tokens by name, which the template writes itself.
        ask: end with what begins the assistant's turn; without, the conversation stands as it is.
        tools: JSON Schemas of the functions that the model may call.
        variables: further names of the template, such as ``enable_thinking``; they win over ``tokens``.
        worker: the process that renders; by default this process's own.

    Raises:
        UsageError: the messages are none.
        Overrun: the template takes too much time or memory.
        ZooError: the template refuses the conversation, is broken, or takes too much.
    """
    plain = _plain(messages)
    names = {**tokens, **(variables or {}), "messages": plain, "tools": tools or None, "documents": None}
    asked = {**names, "add_generation_prompt": ask}
    rendered: str = (worker or shared_worker()).call(RENDER, "the chat template", template=template, names=asked)
    return rendered


@cache
def shared_worker() -> Worker:
    """Get this process's worker for templates; it starts when the first one is rendered."""
    return template_worker()


def template_worker() -> Worker:
    """Make a worker that renders chat templates."""
    return Worker(RENDER_MEMORY, RENDER_SECONDS, ("jinja2", "markupsafe"))


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
    """Copy messages as plain values, whatever objects they were made of; a key that is None is left out,
    but for the content beside calls of tools, which some templates ask for."""
    for message in messages:
        known = isinstance(message, Mapping) and isinstance(message.get("role"), str)
        if not known or not ("content" in message or message.get("tool_calls")):
            raise UsageError(f"a message is {{'role': ..., 'content': ...}}, not {str(message)[:100]}")
    kept = [
        {
            key: value
            for key, value in message.items()
            if value is not None or (key == "content" and "tool_calls" in message)
        }
        for message in messages
    ]
    try:
        plain: list[dict[str, Any]] = json.loads(json.dumps(kept))
    except (TypeError, ValueError) as error:
        raise UsageError(f"a message holds what is not JSON: {error}") from None
    return plain
