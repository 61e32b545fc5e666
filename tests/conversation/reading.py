"""Read whole answers in pieces of any size."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from zoo.conversation.reader import AnswerReader
from zoo.declarations.conversation import Thinking, ToolFormat


def pieces(text: str, size: int) -> Iterator[str]:
    for at in range(0, len(text), size):
        yield text[at : at + size]


def read(
    text: str, form: ToolFormat | None, tools: tuple[str, ...] = (), *, size: int = 1, thinking: Thinking | None = None,
    opened: bool = False,
) -> dict[str, Any]:  # fmt: skip
    """Read an answer; return its reasoning, its content, and its calls as (name, arguments)."""
    reader = AnswerReader(thinking, opened, form, tools)
    parts = [part for piece in pieces(text, size) for part in reader.add(piece)] + reader.rest()
    names: dict[int, str] = {}
    arguments: dict[int, str] = {}
    for part in parts:
        if part.kind == "call":
            assert part.call not in names
            names[part.call] = part.text
        elif part.kind == "arguments":
            assert part.call in names
            arguments[part.call] = arguments.get(part.call, "") + part.text
    assert reader.called == bool(names)
    assert sorted(names) == list(range(len(names)))
    return {
        "reasoning": "".join(part.text for part in parts if part.kind == "reasoning"),
        "content": "".join(part.text for part in parts if part.kind == "content"),
        "calls": [(names[call], json.loads(arguments.get(call, "{}"))) for call in names],
    }
