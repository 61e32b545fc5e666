"""JSON Schemas made ready for llguidance: bounded, without what says nothing, and only where some finite value fits."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import quote, unquote

from zoo.errors import UsageError

MAX_DEPTH = 60
MAX_NODES = 20_000
"""Values in a schema."""
MAX_TEXT = 2**18
"""Characters of a schema written as JSON."""
WHITESPACE = r"(\n[ ]{0,40}|[ ])?"
"""Between tokens of JSON: as people and programs write it, and never without end."""
FORMATS = frozenset({"date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid", "uri"})
"""Those that are enforced; others are notes, as the specification has it."""
NEUTRAL: dict[str, Any] = {"uniqueItems": False, "unevaluatedProperties": True, "unevaluatedItems": True}
"""Keywords that are not supported → the value that asks for nothing."""
URI = "#/%~!$&'()*+,;=:@?"
"""What may stand in a reference as it is; other characters, as in names of other scripts, are written by codes."""
IN_MAPPINGS = frozenset({"properties", "patternProperties", "$defs", "definitions", "dependentSchemas"})
"""Keywords whose values' values are schemas."""
IN_LISTS = frozenset({"allOf", "anyOf", "oneOf", "prefixItems"})
IN_PLACE = frozenset({"items", "additionalProperties", "additionalItems", "not", "if", "then", "else", "contains"})


def prepare_schema(schema: Any) -> Any:
    """Check a schema, and copy it without what says nothing.

    Raises:
        UsageError: it is not a schema, too large, refers to elsewhere, or nothing finite fits it.
    """
    if not isinstance(schema, Mapping | bool):
        raise UsageError(f"a JSON schema is an object or a boolean, not {str(schema)[:60]!r}")
    _measure(schema)
    try:
        text = json.dumps(schema, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise UsageError(f"the schema is not JSON: {error}") from None
    if len(text) > MAX_TEXT:
        raise UsageError(f"the schema has {len(text)} characters; it may have {MAX_TEXT}")
    made = _clean(json.loads(text))
    if made is False:
        raise UsageError("nothing fits the schema false")
    made = {} if made is True else made
    if not _Finite(made).fits(made):
        raise UsageError(
            "nothing finite fits the schema: it requires what no value fits, or refers to itself without an end"
        )
    options = {"whitespace_flexible": True, "whitespace_pattern": WHITESPACE, "lenient": False, "coerce_one_of": False}
    return {**made, "x-guidance": options}


def _measure(schema: Any) -> None:
    """Refuse what is too deep or too large, before anything goes through it."""
    waiting: list[tuple[Any, int]] = [(schema, 0)]
    count = 0
    while waiting:
        value, depth = waiting.pop()
        count += 1
        if depth > MAX_DEPTH:
            raise UsageError(f"the schema is nested more than {MAX_DEPTH} deep")
        if count > MAX_NODES:
            raise UsageError(f"the schema has more than {MAX_NODES} values")
        if isinstance(value, Mapping):
            waiting += ((inner, depth + 1) for inner in value.values())
        elif isinstance(value, list | tuple):
            waiting += ((inner, depth + 1) for inner in value)


def _clean(schema: Any) -> Any:
    """Copy a schema without options of llguidance, notes and keywords that ask for nothing."""
    if not isinstance(schema, dict):
        return schema
    made: dict[str, Any] = {}
    for key, value in schema.items():
        if key == "x-guidance" or (key in NEUTRAL and value == NEUTRAL[key]):
            continue
        if key == "format" and value not in FORMATS:
            continue
        if key == "$ref" and not (isinstance(value, str) and value.startswith("#")):
            raise UsageError(f"'$ref' to {str(value)[:80]!r}: only what is in the schema itself can be referred to")
        if key == "$ref":
            value = quote(value, safe=URI)
        if key in IN_MAPPINGS and isinstance(value, dict):
            value = {name: _clean(inner) for name, inner in value.items()}
        elif (key in IN_LISTS or key == "items") and isinstance(value, list):
            value = [_clean(inner) for inner in value]
        elif key in IN_PLACE:
            value = _clean(value)
        made[key] = value
    return made


class _Finite:
    """Tells whether some finite value may fit: whether every way through a schema leads into itself again.

    It reads structure alone; what contradicts itself otherwise is llguidance's to find.
    """

    def __init__(self, root: Any) -> None:
        self._root = root
        self._ends: set[int] = set()
        """Schemas, by identity, that are known to end."""

    def fits(self, schema: Any) -> bool:
        """Find the least fixed point: rounds go on while one more schema is found to end."""
        before = -1
        while before != len(self._ends):
            before = len(self._ends)
            if self._look(schema, set()):
                return True
        return False

    def _look(self, schema: Any, above: set[int]) -> bool:
        if not isinstance(schema, dict) or id(schema) in self._ends:
            return schema is not False
        if id(schema) in above:
            return False
        above.add(id(schema))
        ends = all(self._needs(schema, lambda inner: self._look(inner, above)))
        above.discard(id(schema))
        if ends:
            self._ends.add(id(schema))
        return ends

    def _needs(self, schema: dict[str, Any], ends: Callable[[Any], bool]) -> Iterator[bool]:
        """Say of all that a value needs whether it ends."""
        if "$ref" in schema:
            target = self._find(schema["$ref"])
            yield target is None or ends(target)  # what refers to nothing is named later
        if isinstance(schema.get("allOf"), list):
            yield all(ends(inner) for inner in schema["allOf"])
        for key in ("anyOf", "oneOf"):
            if isinstance(schema.get(key), list):
                yield any(ends(inner) for inner in schema[key]) or not schema[key]
        kind = schema.get("type")
        if kind == "object" and isinstance(schema.get("required"), list):
            properties = schema.get("properties")
            if isinstance(properties, dict):
                yield all(ends(properties[name]) for name in schema["required"] if name in properties)
        least = schema.get("minItems", 0)
        if kind == "array" and isinstance(least, int) and least > 0:
            first = schema.get("prefixItems")
            yield all(ends(inner) for inner in first[:least]) if isinstance(first, list) else ends(schema.get("items"))

    def _find(self, reference: str) -> Any:
        """Follow a JSON pointer; None where it leads to nothing."""
        value = self._root
        for step in unquote(reference[1:]).split("/")[1:]:
            step = step.replace("~1", "/").replace("~0", "~")
            if isinstance(value, dict) and step in value:
                value = value[step]
            elif isinstance(value, list) and step.isdecimal() and int(step) < len(value):
                value = value[int(step)]
            else:
                return None
        return value
