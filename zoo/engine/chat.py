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

Message = Mapping[str, Any]
SPECIAL = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")


def find_template(folder: Path) -> str | None:
    """Find the package's chat template: ``chat_template.jinja``, or the one in ``tokenizer_config.json``."""
    own = folder / "chat_template.jinja"
    if own.is_file():
        try:
            return own.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            raise ZooError(f"{folder.name}/{own.name}: not UTF-8") from None
    template = _read(folder, "tokenizer_config.json").get("chat_template")
    if isinstance(template, list):
        named = {one.get("name"): one.get("template") for one in template if _named(one)}
        template = named.get("default")
    return template if isinstance(template, str) else None


def _named(one: Any) -> bool:
    return isinstance(one, dict) and isinstance(one.get("name"), str)


def special_tokens(folder: Path) -> dict[str, str]:
    """Name the special tokens that a template may write."""
    config = _read(folder, "special_tokens_map.json") | _read(folder, "tokenizer_config.json")
    found = {}
    for name in SPECIAL:
        value = config.get(name)
        if isinstance(value, dict):
            value = value.get("content")
        if isinstance(value, str):
            found[name] = value
    return found


def _read(folder: Path, name: str) -> dict[str, Any]:
    try:
        config = json.loads((folder / name).read_bytes())
    except FileNotFoundError:
        return {}
    except (ValueError, RecursionError):
        raise ZooError(f"{folder.name}/{name}: not JSON") from None
    return config if isinstance(config, dict) else {}


def render(template: str, messages: Sequence[Message], tokens: Mapping[str, str], *, ask: bool = True) -> str:
    """Write a conversation as the prompt that asks for the assistant's next turn.

    Args:
        messages: each with ``role`` and ``content``.
        tokens: special tokens by name, which the template writes itself.
        ask: end with what begins the assistant's turn; without, the conversation stands as it is.

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
        for piece in compiled.generate(messages=plain, add_generation_prompt=ask, tools=None, documents=None, **tokens):
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
    """Copy messages as plain values, whatever objects they were made of."""
    for one in messages:
        if not isinstance(one, Mapping) or not isinstance(one.get("role"), str) or "content" not in one:
            raise UsageError(f"a message is {{'role': ..., 'content': ...}}, not {str(one)[:100]}")
    try:
        plain: list[dict[str, Any]] = json.loads(json.dumps([dict(one) for one in messages]))
    except (TypeError, ValueError) as error:
        raise UsageError(f"a message holds what is no JSON: {error}") from None
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
