"""Conversations to prompts: the package's chat template, rendered in a sandbox.

The names that a template may use, and the whitespace rules, are those of transformers' ``apply_chat_template``.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from zoo.errors import ZooError

Message = Mapping[str, Any]
MAX_PROMPT = 4_000_000
"""Characters of a rendered prompt; past that the template is taken for broken."""


def find_template(folder: Path) -> str | None:
    """Find the package's chat template: ``chat_template.jinja``, or the one in ``tokenizer_config.json``."""
    own = folder / "chat_template.jinja"
    if own.is_file():
        return own.read_text(encoding="utf-8")
    template = _tokenizer_config(folder).get("chat_template")
    if isinstance(template, list):
        named = {one.get("name"): one.get("template") for one in template if isinstance(one, dict)}
        template = named.get("default")
    return template if isinstance(template, str) else None


def special_tokens(folder: Path) -> dict[str, str]:
    """Name the special tokens that a template may write."""
    config = _tokenizer_config(folder)
    found = {}
    for name in ("bos_token", "eos_token", "pad_token", "unk_token"):
        value = config.get(name)
        if isinstance(value, dict):
            value = value.get("content")
        if isinstance(value, str):
            found[name] = value
    return found


def _tokenizer_config(folder: Path) -> dict[str, Any]:
    path = folder / "tokenizer_config.json"
    if not path.is_file():
        return {}
    try:
        config = json.loads(path.read_bytes())
    except ValueError:
        raise ZooError(f"{folder.name}/tokenizer_config.json: not JSON") from None
    return config if isinstance(config, dict) else {}


def render(template: str, messages: Sequence[Message], tokens: Mapping[str, str]) -> str:
    """Write a conversation as the prompt that asks for the assistant's next turn.

    Raises:
        ZooError: the template refuses the conversation, or is broken.
    """
    from jinja2 import TemplateError
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    def raise_exception(message: str) -> None:
        raise TemplateError(message)

    def strftime_now(form: str) -> str:
        return datetime.datetime.now().strftime(form)

    def tojson(value: Any, indent: int | None = None, ensure_ascii: bool = False, **kwargs: Any) -> str:
        return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, **kwargs)

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    environment.globals |= {"raise_exception": raise_exception, "strftime_now": strftime_now}
    environment.filters["tojson"] = tojson
    pieces, size = [], 0
    try:
        compiled = environment.from_string(template)
        for piece in compiled.generate(messages=[dict(one) for one in messages], add_generation_prompt=True, **tokens):
            pieces.append(piece)
            size += len(piece)
            if size > MAX_PROMPT:
                raise ZooError(f"the chat template writes more than {MAX_PROMPT} characters")
    except ZooError:
        raise
    except Exception as error:
        raise ZooError(f"the chat template refuses this conversation: {' '.join(str(error).split())[:200]}") from None
    return "".join(pieces)
