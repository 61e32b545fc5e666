"""Calls written in Python: ``[weather(city="Bern", days=2), now()]``. They are read, never run."""

from __future__ import annotations

import ast
import json
from typing import Any

NAMES = {"true": True, "false": False, "null": None}
"""JSON's words, which models mix in."""


def read_calls(text: str) -> list[tuple[str, str]] | None:
    """Read calls.

    Returns:
        Each tool's name and its arguments as JSON; None for what is not a list of calls with constants.
    """
    try:
        tree = ast.parse(text.strip(), mode="eval").body
        if not isinstance(tree, ast.List) or not tree.elts:
            return None
        return [_call(node) for node in tree.elts]
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError):
        return None


def _call(node: ast.expr) -> tuple[str, str]:
    if not isinstance(node, ast.Call) or node.args:
        raise ValueError("not a call by keywords")
    arguments: dict[str, Any] = {}
    for keyword in node.keywords:
        if keyword.arg is None:
            raise ValueError("arguments that are spread")
        arguments[keyword.arg] = _value(keyword.value)
    return ast.unparse(_name(node.func)), json.dumps(arguments, ensure_ascii=False)


def _name(node: ast.expr) -> ast.expr:
    if isinstance(node, ast.Name) or (isinstance(node, ast.Attribute) and _name(node.value)):
        return node
    raise ValueError("not a name")


def _value(node: ast.expr) -> Any:
    if isinstance(node, ast.Name) and node.id in NAMES:
        return NAMES[node.id]
    if isinstance(node, ast.List | ast.Tuple):
        return [_value(element) for element in node.elts]
    if isinstance(node, ast.Dict):
        return {str(_value(key)): _value(value) for key, value in zip(node.keys, node.values, strict=True) if key}
    value = ast.literal_eval(node)
    if value is not None and not isinstance(value, str | int | float | bool):
        raise ValueError("not a value of JSON")
    return value
