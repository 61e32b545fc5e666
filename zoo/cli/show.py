"""``zoo show``."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from zoo.cli.options import Json
from zoo.cli.output import echo, print_json, print_table, stored_text

_SHOWN = 8
"""So many numbers of a list are shown."""


def show(
    model: Annotated[str, typer.Argument(help="A declared model, a checkpoint folder or file, a package or a hub id.")],
    as_json: Json = False,
) -> None:
    """Show all values of a model, and where each came from."""
    from zoo.plugins import host
    from zoo.stages.describe import describe

    description = describe(host().registry, model)
    if as_json:
        print_json(description)
        return
    echo(description.model)
    if description.format:
        echo(f"weights: {stored_text(description)}")
    for section, fields in description.fields.items():
        echo(f"\n{section}")
        print_table(
            ["FIELD", "VALUE", "FROM"],
            [(name, _text(field.value), field.origin) for name, field in fields.items()],
        )


def _text(value: object) -> str:
    """Format a value: texts as they are, entries of a list one after the other, anything else as JSON."""
    if isinstance(value, str):
        return value.replace("\n", "\\n")
    if isinstance(value, list) and value and all(isinstance(entry, str) for entry in value):
        return " ".join(value) if any(" " in entry for entry in value) else ", ".join(value)
    if isinstance(value, list) and value and all(isinstance(entry, dict) and "url" in entry for entry in value):
        return "; ".join(f"{entry.get('title') or entry.get('name')} <{entry['url']}>" for entry in value)
    if isinstance(value, dict):
        value = {name: _brief(entry) for name, entry in value.items()}
    return json.dumps(value, ensure_ascii=False)


def _brief(value: object) -> object:
    """Count numbers that would fill the screen."""
    if isinstance(value, list) and len(value) > _SHOWN and all(isinstance(entry, int | float) for entry in value):
        return f"{len(value)} numbers"
    return value
