"""Strict YAML: every mistake is one line with file, line and field."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import yaml

from zoo.declarations.family import Family
from zoo.errors import ZooError
from zoo.yamlfile import DeclarationError, Document

GOOD = """\
name: example
title: Example
licence: {id: mit}
models:
  - name: example-1b
    weights: {hub: example/one}
"""


def problems(tmp_path: Path, text: str) -> list[str]:
    file = tmp_path / "family.yaml"
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(ZooError) as caught:
        Document(file).validate(Family)
    assert "\n" not in str(caught.value)
    error = caught.value
    return [str(one) for one in error.problems] if isinstance(error, DeclarationError) else [str(error)]


BOMB = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{chr(98 + i)}: &{chr(98 + i)} [{', '.join(['*' + chr(97 + i)] * 10)}]\n" for i in range(8)
)

CASES = {
    "unknown field": (GOOD + "colour: red\n", ":7:1: colour: unknown field"),
    "nested unknown field": (GOOD + "    hue: red\n", ":7:5: models[0].hue: unknown field"),
    "wrong type": (
        GOOD + "pretraining_tokens: many\n",
        ":7:1: pretraining_tokens: expected a whole number, not 'many'",
    ),
    "out of range": (
        GOOD + "    architecture: {hidden_size: -4}\n",
        ":7:20: models[0].architecture.hidden_size: must be above 0, not -4",
    ),
    "missing field": (GOOD.replace("title: Example\n", ""), ":1:1: title: this field is required"),
    "duplicate key": (GOOD + "title: Again\n", ":7:1: title: this key stands here twice"),
    "python tag": (GOOD + "summary: !!python/object/apply:os.system ['true']\n", "!!python/object/apply:os.system"),
    "local tag": (GOOD + "summary: !boom x\n", "the tag !boom is not read"),
    "alias bomb": (BOMB, "aliases"),
    "recursive alias": ("a: &a [*a]\n", "nested deeper"),
    "deep nesting": ("[" * 300 + "]" * 300, "nested deeper"),
    "two documents": (GOOD + "---\n" + GOOD, "document"),
    "not YAML": ("name: [", ":2:1"),
    "a list": ("- 1\n", "is a mapping of fields"),
    "empty": ("", "is a mapping of fields"),
    "not UTF-8": (b"name: \xff\xfe\n", "not YAML"),
    "control characters": ("name: \x01\n", "not YAML"),
    "a mapping as a key": ("{a: 1}: 2\n", "a key must be a plain word"),
    "twice the same model": (
        GOOD + "  - name: example-1b\n    weights: {hub: example/two}\n",
        "model 'example-1b' is declared twice",
    ),
    "unknown base": (GOOD + "    base: nobody\n", "based on 'nobody'"),
    "hub and path": (GOOD.replace("{hub: example/one}", "{hub: example/one, path: here}"), "either hub or path"),
    "bad hub id": (GOOD.replace("example/one", "no-slash"), "models[0].weights.hub"),
}


@pytest.mark.parametrize("case", CASES)
def test_a_mistake_names_file_line_and_field(case, tmp_path) -> None:
    text, expected = CASES[case]
    started = time.monotonic()
    found = problems(tmp_path, text)
    assert any(expected in one for one in found), found
    assert all(one.startswith(str(tmp_path / "family.yaml")) for one in found)
    assert time.monotonic() - started < 20


def test_every_mistake_is_listed(tmp_path) -> None:
    assert len(problems(tmp_path, GOOD + "colour: red\nhue: blue\n")) == 2


def test_too_large(tmp_path) -> None:
    assert "too many" in problems(tmp_path, "#" * (5 * 2**20))[0]


def test_aliases_are_read(tmp_path) -> None:
    file = tmp_path / "family.yaml"
    file.write_text(GOOD + "    note: &n Hello\n  - {name: two, weights: {hub: a/b}, note: *n}\n")
    assert [one.note for one in Document(file).validate(Family).models] == ["Hello", "Hello"]


def test_numbers_read_as_yaml_writes_them(tmp_path) -> None:
    file = tmp_path / "family.yaml"
    file.write_text(GOOD + "    architecture: {rms_norm_eps: 1e-5}\npretraining_tokens: 1_000\n")
    family = Document(file).validate(Family)
    assert family.models[0].architecture.rms_norm_eps == 1e-5
    assert family.pretraining_tokens == 1000


def test_the_bundled_declarations_point_editors_to_their_schema() -> None:
    root = Path(__file__).parent.parent
    for file in root.glob("plugins/*/zoo_*/*.yaml"):
        first = file.read_text().splitlines()[0]
        assert first.startswith("# yaml-language-server: $schema=")
        assert (file.parent / first.partition("=")[2]).resolve().is_file()


def test_the_bundled_declarations_satisfy_the_generated_schemas() -> None:
    jsonschema = pytest.importorskip("jsonschema")
    import json

    root = Path(__file__).parent.parent
    for file in root.glob("plugins/*/zoo_*/*.yaml"):
        schema = (file.parent / file.read_text().splitlines()[0].partition("=")[2]).resolve()
        jsonschema.validate(yaml.safe_load(file.read_text()), json.loads(schema.read_text()))
