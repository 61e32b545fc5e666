"""Say in plain words what pydantic found wrong with a value, and what would have been right."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

_EXPECTED = {
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_parsing_size": "a whole number of 64 bits",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "string_type": "text",
    "string_sub_type": "text",
    "list_type": "a list",
    "tuple_type": "a list",
    "dict_type": "a mapping of fields",
    "mapping_type": "a mapping of fields",
    "model_type": "a mapping of fields",
    "model_attributes_type": "a mapping of fields",
}
_BOUNDS = {
    "greater_than": ("gt", "above"),
    "greater_than_equal": ("ge", "at least"),
    "less_than": ("lt", "below"),
    "less_than_equal": ("le", "at most"),
}
_PATTERNS = {
    r"^[a-z0-9][a-z0-9._-]*$": "lower case letters, digits, dots, dashes and underscores",
    r"^[a-z0-9][a-z0-9._-]*(/[a-z0-9][a-z0-9._-]*)?$": "a model's name, or family/model",
    r"^[A-Za-z0-9][\w.-]*/[A-Za-z0-9_][\w.-]*$": "a repository on the hub, organisation/name",
    r"^[A-Za-z0-9_][A-Za-z0-9_./-]*$": "a branch, a tag or a commit",
    r"^[A-Za-z0-9][\w-]*$": "letters, digits, dashes and underscores",
    r"^https?://\S+$": "an address that begins with https://",
    r"^[0-9a-f]{64}$": "the 64 lower case hexadecimal digits of a SHA-256",
}
_LONGEST = 40


def mistakes(error: ValidationError) -> list[Any]:
    """List what is wrong, without what only follows: a list is not too short because its entries are wrong."""
    problems = error.errors(include_url=False)
    short = [mistake["loc"] for mistake in problems if mistake["type"] == "too_short"]
    following = [
        loc
        for loc in short
        if any(len(problem["loc"]) > len(loc) and problem["loc"][: len(loc)] == loc for problem in problems)
    ]
    kept = [mistake for mistake in problems if mistake["type"] != "too_short" or mistake["loc"] not in following]
    return [{**mistake, "loc": _place(mistake)} for mistake in kept]


def _place(mistake: Any) -> tuple[str | int, ...]:
    """Find the place of a mistake: of the value that a validator complains about, of the entry whose key is wrong."""
    inside = getattr((mistake.get("ctx") or {}).get("error"), "at", ())
    return tuple(step for step in mistake["loc"] if step != "[key]") + inside


def explain(error: Any) -> str:
    """Say in one line what is wrong with one value.

    Args:
        error: one of ``ValidationError.errors()``.
    """
    kind, context = error["type"], error.get("ctx") or {}
    if kind == "extra_forbidden":
        return "unknown field"
    if kind == "missing":
        return "this field is required"
    if kind in ("value_error", "assertion_error"):
        return str(error["msg"]).removeprefix("Value error, ")
    shown = shown_value(error.get("input"))
    if kind in _EXPECTED:
        quoted = "; put it in quotes" if kind == "string_type" and isinstance(error["input"], int | float) else ""
        return f"expected {_EXPECTED[kind]}, not {shown}{quoted}"
    if kind in ("literal_error", "enum"):
        return f"expected {context['expected']}, not {shown}"
    if kind in _BOUNDS:
        name, words = _BOUNDS[kind]
        return f"must be {words} {context[name]}, not {shown}"
    if kind == "string_pattern_mismatch":
        pattern = context["pattern"]
        return f"expected {_PATTERNS.get(pattern, f'text like {pattern}')}, not {shown}"
    if kind in ("string_too_long", "too_long"):
        return f"too long; at most {context['max_length']} {_unit(kind)}"
    if kind in ("string_too_short", "too_short"):
        return f"too short; at least {context['min_length']} {_unit(kind)}"
    return str(error["msg"])


def shown_value(value: Any) -> str:
    """Show a value in a few words, however large it is."""
    if value is None or isinstance(value, bool):
        return {None: "nothing", True: "true", False: "false"}[value]
    if isinstance(value, str):
        return repr(value) if len(value) <= _LONGEST else f"{value[:_LONGEST]!r}…"
    if isinstance(value, int) and value.bit_length() > 128:
        return f"a number of {value.bit_length()} bits"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, dict):
        return "a mapping"
    return "a list" if isinstance(value, list | tuple) else f"a {type(value).__name__}"


def _unit(kind: str) -> str:
    return "characters" if kind.startswith("string") else "entries"
