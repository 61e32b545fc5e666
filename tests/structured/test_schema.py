"""Schemas and expressions that cannot be followed: the reason names what it is, and nothing takes long."""

from __future__ import annotations

import random
import re
import time
from pathlib import Path
from typing import Any

import pytest
import zoo_tiny

from zoo.contracts.constraint import ConstraintError
from zoo.errors import UsageError
from zoo.structured import Structure
from zoo.structured.guide import Guide
from zoo.structured.schema import prepare_schema


@pytest.fixture(scope="module")
def guide() -> Guide:
    pytest.importorskip("llguidance")
    folder = Path(zoo_tiny.__file__).parent / "checkpoint"
    return Guide((folder / "tokenizer.json").read_text(encoding="utf-8"), 2048, [2, 6])


def nested(depth: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "integer"}
    for _ in range(depth):
        schema = {"type": "array", "items": schema}
    return schema


LIST = {"type": "object", "properties": {"next": {"$ref": "#"}}}


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        ({"not": {}}, "the keyword 'not' is not supported"),
        ({"if": {}, "then": {}}, "the keywords 'if', 'then' are not supported"),
        ({"type": "array", "uniqueItems": True}, "'uniqueItems' is not supported"),
        ({"type": "string", "pattern": "(?=a)b"}, "the expression '(?=a)b': look-around"),
        ({"type": "string", "pattern": "("}, "the expression '(': unclosed group"),
        ({"oneOf": [{"type": "integer"}, {"type": "number"}]}, "say 'anyOf'"),
        ({"type": "strin"}, "Invalid type: strin"),
        ({"type": "integer", "minimum": 5, "maximum": 3}, "minimum (5) is greater than maximum (3)"),
        ({"allOf": [{"type": "string"}, {"type": "integer"}]}, "incompatible types"),
        ({"enum": []}, "Unsatisfiable"),
        (False, "nothing fits the schema false"),
        ({"$ref": "#/$defs/absent"}, "'/$defs/absent' does not exist"),
        ({"$ref": "https://example.org/schema.json"}, "only what is in the schema itself"),
        ({"$ref": "#"}, "without an end"),
        (LIST | {"required": ["next"]}, "without an end"),
        ({"type": "array", "items": {"$ref": "#"}, "minItems": 1}, "without an end"),
        ({"type": "object", "properties": {"a": False}, "required": ["a"]}, "requires what no value fits"),
        (nested(100), "nested more than"),
        ({"properties": {f"p{at}": {} for at in range(30_000)}}, "more than 20000 values"),
        ({"enum": ["x" * 300_000]}, "it may have 262144"),
        ([1], "an object or a boolean"),
        ({"type": "object", "properties": 3}, "properties must be an object"),
        ({"x-guidance": {"lenient": True}, "not": {}}, "'not' is not supported"),
    ],
)
def test_a_schema_that_cannot_be_followed(guide, schema, said) -> None:
    started = time.perf_counter()
    with pytest.raises(UsageError) as raised:
        guide.follow(Structure("schema", schema))
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)
    assert time.perf_counter() - started < 5


@pytest.mark.parametrize(
    "schema",
    [
        LIST, {"anyOf": [{"$ref": "#"}, {"type": "null"}]}, {"type": "array", "items": {"$ref": "#"}}, True, {},
        {"type": "string", "format": "binary"}, {"type": "array", "uniqueItems": False}, {"$comment": "é"},
        {"$defs": {"a/b": {"type": "null"}}, "$ref": "#/$defs/a~1b"}, nested(30),
        {"properties": {"not": {"type": "string"}, "$ref": {"type": "null"}, "format": {"const": "odd"}}},
    ],
)  # fmt: skip
def test_a_schema_that_can(guide, schema) -> None:
    assert guide.follow(Structure("schema", schema)).allowed().any()


def test_what_says_nothing_is_left_out_and_what_is_data_stays() -> None:
    given = {
        "enum": [{"format": "odd", "x-guidance": 1}],
        "properties": {"format": {"type": "string", "format": "odd"}},
    }
    made = prepare_schema(given)
    assert made["enum"] == given["enum"]
    assert made["properties"] == {"format": {"type": "string"}}
    assert "x-guidance" not in given


@pytest.mark.parametrize(
    ("kind", "source", "said"),
    [
        ("regex", "(", "unclosed group"),
        ("regex", r"\bfoo", "lookarounds not supported"),
        ("regex", r"(a)\1", "backreferences are not supported"),
        ("regex", "", "a text that is not empty"),
        ("regex", "x" * 300_000, "it may have 262144"),
        ("grammar", "start: absent", "unknown name"),
        ("grammar", "nonsense ((", "neither Lark nor GBNF"),
        ("grammar", 'start: start "a"', "nothing fits it"),
        ("choice", [], "1 to 1000 texts"),
        ("choice", ["a", ""], "none of them empty"),
        ("choice", "ab", "a list"),
    ],
)
def test_an_expression_or_a_grammar_that_cannot_be_followed(guide, kind, source, said) -> None:
    with pytest.raises(UsageError) as raised:
        guide.follow(Structure(kind, source))
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("expression", ["a/b", r"a\/b", r"\\/", "a\nb", "[/]"])
def test_slashes_and_line_ends_mean_themselves(guide, expression) -> None:
    following, text = guide.follow(Structure("regex", expression)), b""
    ids = guide_ids(guide)
    while not following.complete:
        token = int(following.allowed().nonzero()[0][0])
        following.accept(token)
        text += ids[token]
    assert re.fullmatch(expression, text.decode())


@pytest.mark.parametrize(
    "expression",
    ["(.{1,1000}){1,1000}", "(a|b|ab)*c{10000}", "(x+x+)+y", "([a-z]*[0-9]*){200}x", ".*(a.{400}b|c.{300}d)"],
)
def test_an_expression_that_explodes_meets_a_limit(guide, expression) -> None:
    reason = ""
    following, chance, started = guide.follow(Structure("regex", expression)), random.Random(1), time.perf_counter()
    try:
        for _ in range(100):
            if following.complete:
                break
            following.accept(int(chance.choice(following.allowed().nonzero()[0])))
    except ConstraintError as error:
        reason = str(error)
    assert "\n" not in reason
    assert time.perf_counter() - started < 20


def guide_ids(guide: Guide) -> dict[int, bytes]:
    return {token: guide._library.decode_bytes([token]) for token in range(2048)}
