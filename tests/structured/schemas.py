"""Random JSON schemas of the kinds that programs send: nested objects, references, patterns, bounds, unicode."""

from __future__ import annotations

import random
from typing import Any

NAMES = ("name", "id", "größe", "名前", "a b", 'quo"te', "emoji🐝", "x/y", "tags", "next", "value", "")
PATTERNS = (
    r"^[a-z]{1,8}$", r"^\d{3}-\d{4}$", r"^(foo|bär|baz)+$", r"^[A-Z][a-z]*( [A-Z][a-z]*){0,2}$",
    r"^[^\x00-\x1f\"\\]{0,5}$",
    r"[0-9]", r"^#[0-9a-fA-F]{6}$",
)  # fmt: skip
FORMATS = ("date", "date-time", "time", "uuid", "ipv4", "email", "binary", "int64")
WORDS = ("red", "grün", "蓝", "a\nb", '"', "\\", "", "🐝")


class SchemaMaker:
    """Draws schemas.

    Args:
        drawn: where chance comes from.
        unsupported: how often a keyword appears that nobody need support.
    """

    def __init__(self, drawn: random.Random, unsupported: float = 0.005) -> None:
        self._drawn, self._unsupported = drawn, unsupported
        self._definitions: dict[str, Any] = {}

    def schema(self) -> dict[str, Any]:
        """Draw a schema with its definitions."""
        drawn = self._drawn
        self._definitions = {}
        for name in drawn.sample(("node", "leaf", "größe"), drawn.randrange(3)):
            self._definitions[name] = self._node(2) if name == "node" else self._any(2)  # may refer to those before
        made = self._object(0) if drawn.random() < 0.8 else self._any(0)
        if self._definitions:
            made = {**made, "$defs": self._definitions}
        return made

    def _node(self, depth: int) -> dict[str, Any]:
        """Draw a list or a tree: it refers to itself, and may end."""
        inner: dict[str, Any] = {"$ref": "#/$defs/node"}
        if self._drawn.random() < 0.5:
            inner = {"anyOf": [inner, {"type": "null"}]}
            return self._closed({"value": self._scalar(), "next": inner}, ["value", "next"])
        return self._closed({"value": self._scalar(), "children": {"type": "array", "items": inner, "maxItems": 2}}, [])

    def _any(self, depth: int) -> dict[str, Any]:
        drawn = self._drawn
        kinds = [self._scalar, self._scalar, self._scalar]
        if depth < 4:
            kinds += [lambda: self._object(depth + 1), lambda: self._array(depth + 1), lambda: self._union(depth + 1)]
        if self._definitions:
            kinds.append(lambda: {"$ref": f"#/$defs/{drawn.choice(list(self._definitions))}"})
        made = drawn.choice(kinds)()
        if drawn.random() < 0.1:
            made["description"] = "say it in “words”"
        if drawn.random() < self._unsupported:
            made.update(drawn.choice(({"not": {"type": "null"}}, {"uniqueItems": True}, {"if": {}, "then": {}})))
        return made

    def _object(self, depth: int) -> dict[str, Any]:
        drawn = self._drawn
        names = drawn.sample(NAMES, drawn.randrange(5))
        return self._closed({name: self._any(depth) for name in names}, [one for one in names if drawn.random() < 0.7])

    def _closed(self, properties: dict[str, Any], required: list[str]) -> dict[str, Any]:
        made = {"type": "object", "properties": properties, "required": required}
        return made if self._drawn.random() < 0.1 else {**made, "additionalProperties": False}

    def _array(self, depth: int) -> dict[str, Any]:
        drawn = self._drawn
        least = drawn.randrange(3)
        made: dict[str, Any] = {"type": "array", "items": self._any(depth), "maxItems": least + drawn.randrange(3)}
        if least:
            made["minItems"] = least
        if drawn.random() < 0.2:
            made["prefixItems"] = [self._scalar()]
        return made

    def _union(self, depth: int) -> dict[str, Any]:
        drawn = self._drawn
        if drawn.random() < 0.5:
            tags = [{"kind": {"const": f"k{at}"}, "value": self._any(depth)} for at in range(2)]
            return {"oneOf": [self._closed(one, ["kind", "value"]) for one in tags]}
        return {"anyOf": [self._any(depth) for _ in range(drawn.randrange(1, 3))]}

    def _scalar(self) -> dict[str, Any]:
        drawn = self._drawn
        least = drawn.randrange(-20, 20)
        return drawn.choice(
            (
                {"type": "string", "maxLength": drawn.randrange(12)},
                {"type": "string", "pattern": drawn.choice(PATTERNS)},
                {"type": "string", "format": drawn.choice(FORMATS), "maxLength": 40},
                {"type": "integer", "minimum": least, "maximum": least + drawn.randrange(1, 3000)},
                {"type": "number", "exclusiveMinimum": least, "maximum": least + 1.5},
                {"type": "boolean"},
                {"type": ["string", "null"], "minLength": 1, "maxLength": 4},
                {"enum": drawn.sample([*WORDS, 1, None, True], drawn.randrange(1, 4))},
                {"const": drawn.choice((3, "é", [1, {"a": None}], {"b": []}))},
            )
        )
