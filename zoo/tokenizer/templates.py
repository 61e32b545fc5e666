"""Chat templates: which ones a checkpoint has, by name.

As transformers finds them: ``chat_template.jinja``, with the one for tools in ``additional_chat_templates``, before
``tokenizer_config.json``, whose ``chat_template`` is one text or a list with names. ``chat_template.json`` is what its
processors of several media read; it counts where a tokenizer has no template of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from zoo.errors import ZooError
from zoo.sources.jsonfile import parse_object
from zoo.tokenizer.files import Companion, TokenizerFiles, require_text

DEFAULT = "default"
TOOLS = "tool_use"
FILE = "chat_template.jinja"
TOOLS_FILE = f"additional_chat_templates/{TOOLS}.jinja"
PROCESSOR = "chat_template.json"


def chat_templates(companion: Companion, files: TokenizerFiles) -> dict[str, str]:
    """Collect the templates of a checkpoint or package by name; empty for a base model.

    Raises:
        ZooError: a file is not text, or not JSON.
    """
    own = {name: raw for name, file in ((DEFAULT, FILE), (TOOLS, TOOLS_FILE)) if (raw := companion(file)) is not None}
    if own:
        return {name: require_text(raw, f"{files.where}: chat template {name}") for name, raw in own.items()}
    stated = files.settings.get("chat_template")
    if stated is None and (raw := companion(PROCESSOR)) is not None:
        stated = parse_object(raw, f"{files.where}/{PROCESSOR}").get("chat_template")
    return _by_name(stated)


def _by_name(stated: Any) -> dict[str, str]:
    if isinstance(stated, str):
        return {DEFAULT: stated}
    if isinstance(stated, list):
        stated = {entry["name"]: entry.get("template") for entry in stated if _is_named(entry)}
    if not isinstance(stated, Mapping):
        return {}
    return {name: text for name, text in stated.items() if isinstance(text, str)}


def _is_named(entry: Any) -> bool:
    return isinstance(entry, Mapping) and isinstance(entry.get("name"), str)


def choose_template(templates: Mapping[str, str], where: str, *, tools: bool = False) -> str:
    """Choose the template of a conversation: the one for tools where there are tools, else the default.

    Raises:
        ZooError: there is none.
    """
    if tools and TOOLS in templates:
        return templates[TOOLS]
    if DEFAULT in templates:
        return templates[DEFAULT]
    if templates:
        names = ", ".join(sorted(templates))
        raise ZooError(
            f"{where} has chat templates for {names} only and no default; it cannot render a plain conversation"
        )
    raise ZooError(f"{where} has no chat template: it is a base model; leave --chat out")
