"""Write a family's YAML: facts as they are, and a marked question for each that is missing."""

from __future__ import annotations

import json
import textwrap
from typing import Any

import yaml

from zoo_scaffold.facts import EXAMPLE_NUMBERS, QUESTION, Facts

SIZES = (
    "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "head_dim",
)  # fmt: skip
"""What differs between the models of a family; the rest is the family's."""


def family_yaml(facts: Facts) -> str:
    """Write the declaration of a family with one model."""
    numbers = facts.numbers or EXAMPLE_NUMBERS
    lines = [
        "# yaml-language-server: $schema=../family.schema.json",
        f"name: {plain(facts.name)}",
        f"title: {plain(facts.title)}",
    ]
    if facts.organisation is not None:
        lines.append(f"organisation: {plain(facts.organisation)}")
    if facts.licence is not None:
        lines.append(f"licence: {{id: {plain(facts.licence)}}}  # {QUESTION}: commercial_use: true or false?")
    else:
        lines.append(
            f"licence: {{id: unknown}}  # {QUESTION}: which licence? An SPDX id or the hub's tag; url, commercial_use"
        )
    if facts.model_type is not None:
        lines.append(
            f"model_type: {plain(facts.model_type)}" if facts.claimed else f"claims: [{plain(facts.model_type)}]"
        )
    lines.append(
        "architecture:" + ("" if facts.numbers else f"  # {QUESTION}: put your config.json's numbers here and below")
    )
    lines += [f"  {name}: {plain(value)}" for name, value in numbers.items() if name not in SIZES]
    if facts.tokens:
        lines.append(f"tokens: {plain(facts.tokens)}")
    lines += ["models:", f"  - name: {plain(facts.model)}"]
    if facts.hub is not None:
        lines.append(f"    weights: {{hub: {plain(facts.hub)}}}")
    else:
        lines.append(
            f"    weights: {{hub: {plain(f'me/{facts.model}')}}}  # {QUESTION}: where are the weights on the hub?"
        )
    lines.append("    architecture:")
    lines += [f"      {name}: {plain(numbers[name])}" for name in SIZES if name in numbers]
    if facts.chat_template is not None:
        lines += ["    chat: true", *_template(facts.chat_template)]
    if facts.source is not None:
        lines.append(f"    source: {plain(facts.source)}")
    return "\n".join(lines) + "\n"


def plain(value: Any) -> str:
    """Write a value on one line, as YAML reads it back."""
    text = json.dumps(value, ensure_ascii=False)
    if isinstance(value, str) and _reads_back(value):
        return value
    if isinstance(value, float):
        return text if "." in text else text.replace("e", ".0e")
    if isinstance(value, dict):
        return "{" + ", ".join(f"{plain(str(name))}: {plain(one)}" for name, one in value.items()) + "}"
    return text


def _reads_back(text: str) -> bool:
    """Tell whether YAML reads a text without quotes as that text."""
    if not all(char.isalnum() or char in " ._-/" for char in text):
        return False
    try:
        return bool(yaml.safe_load(f"{{a: {text}}}") == {"a": text})
    except (yaml.YAMLError, ValueError):
        return False


def _template(template: str) -> list[str]:
    """Write a chat template as a block that reads, or quoted where a block would not keep it."""
    block = "    chat_template: |-\n" + textwrap.indent(template, "      ", lambda _: True)
    try:
        kept = yaml.safe_load(textwrap.dedent(block)) == {"chat_template": template}
    except yaml.YAMLError:
        kept = False
    return block.splitlines() if kept else [f"    chat_template: {json.dumps(template)}"]
