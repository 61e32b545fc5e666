"""A tokenizer that makes much of little is refused before the library runs any of it."""

from __future__ import annotations

import base64
import contextlib
import json
import time
from pathlib import Path
from typing import Any

import pytest

from zoo.errors import ZooError
from zoo.tokenizer import bounds
from zoo.tokenizer.bounds import check
from zoo.tokenizer.library import encode, load, open_plain

pytestmark = pytest.mark.attack("t01_tokenizer_bombs.py", "a tokenizer.json that makes much of little")

TINY = Path(__file__).parents[2] / "plugins/tiny/zoo_tiny/checkpoint/tokenizer.json"


def replace(pattern: Any, content: str) -> dict[str, Any]:
    return {"type": "Replace", "pattern": pattern, "content": content}


def literal(pattern: str, content: str) -> dict[str, Any]:
    return replace({"String": pattern}, content)


def sequence(kind: str, *steps: dict[str, Any]) -> dict[str, Any]:
    return {"type": "Sequence", kind: list(steps)}


def template(pieces: int) -> dict[str, Any]:
    single = [{"Sequence": {"id": "A", "type_id": 0}}] * pieces
    return {"type": "TemplateProcessing", "single": single, "pair": single, "special_tokens": {}}


def table(longest: int) -> str:
    return base64.b64encode((4).to_bytes(4, "little") + bytes(4) + b"a\0" + b"b" * longest + b"\0").decode()


def added(content: str) -> dict[str, Any]:
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized", "special"), False)
    return {"id": 9999, "content": content, **flags}


DOUBLE = [literal("a", "aa")] * 34
BOMBS: dict[str, dict[str, Any]] = {
    "doubling": {"normalizer": sequence("normalizers", *DOUBLE)},
    "tripling another letter": {"normalizer": sequence("normalizers", *[literal("xy", "xyxyxy")] * 20)},
    "doubling, nested": {"normalizer": sequence("normalizers", *[sequence("normalizers", step) for step in DOUBLE])},
    "a long replacement": {"normalizer": literal("e", "e" * 5000)},
    "an expression's": {"normalizer": replace({"Regex": "."}, "e" * 5000)},
    "of an empty pattern": {"normalizer": literal("", "e" * 5000)},
    "a long prefix": {"normalizer": {"type": "Prepend", "prepend": "e" * 50_000}},
    "a table's": {"normalizer": {"type": "Precompiled", "precompiled_charsmap": table(90_000)}},
    "a decoder's": {"decoder": sequence("decoders", *[literal("e", "e" * 50)] * 6, {"type": "Fuse"})},
    "a decoder's expression": {"decoder": sequence("decoders", *[replace({"Regex": "[a-z]"}, "ee")] * 10)},
    "a word piece prefix": {"decoder": {"type": "WordPiece", "prefix": "#" * 5000, "cleanup": True}},
    "a text 2000 times": {"post_processor": template(2000)},
    "a text 20 times, twice": {"post_processor": sequence("processors", template(5), template(5))},
    "a thousand steps": {"pre_tokenizer": sequence("pretokenizers", *[{"type": "Whitespace"}] * 1000)},
    "a long added token": {"added_tokens": [added("x" * 300_000)]},
    "a normalized added token": {"added_tokens": [added("a" * 2000) | {"normalized": True}]},
    "a long suffix": {"model": {"type": "BPE", "vocab": {}, "merges": [], "end_of_word_suffix": "x" * 9999}},
}


@pytest.mark.attack("t01_tokenizer_bombs.py", "a tokenizer.json that makes gigabytes of a letter")
@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_refused_before_it_goes_off(name) -> None:
    data = json.loads(TINY.read_text()) | BOMBS[name]
    begun = time.process_time()
    with pytest.raises(ZooError, match=r"here/tokenizer\.json") as caught:
        load(json.dumps(data).encode(), "here/tokenizer.json")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300
    assert time.process_time() - begun < 5


GOOD: dict[str, dict[str, Any]] = {
    "as it is": {},
    "spaces as in SentencePiece": {
        "normalizer": sequence("normalizers", {"type": "Prepend", "prepend": "▁"}, literal(" ", "▁")),
        "decoder": sequence("decoders", literal("▁", " "), {"type": "ByteFallback"}, {"type": "Fuse"}),
    },
    "many normalizers": {
        "normalizer": sequence(
            "normalizers", literal("``", '"'), literal("''", '"'), {"type": "NFKD"}, {"type": "StripAccents"},
            {"type": "Lowercase"}, replace({"Regex": " {2,}"}, "▁"),
        )
    },
    "bos around a text": {
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}},
        }
    },
    "padding that a training left on": {
        "padding": {"strategy": {"Fixed": 2**31}, "direction": "Right", "pad_to_multiple_of": None, "pad_id": 0,
                    "pad_type_id": 0, "pad_token": "x"}
    },
}  # fmt: skip


@pytest.mark.parametrize("name", GOOD)
def test_what_real_tokenizers_do_is_read(name) -> None:
    data = json.loads(TINY.read_text()) | GOOD[name]
    raw = json.dumps(data).encode()
    check(raw, "tokenizer.json")
    library = open_plain(raw, "tokenizer.json", split_special=False)
    assert 0 < len(encode(library, "once upon a time", special=True)) < 50


def test_the_file_is_bounded(monkeypatch) -> None:
    monkeypatch.setattr(bounds, "MAX_BYTES", 1000)
    with pytest.raises(ZooError, match="at most 1000 are read"):
        check(b" " * 1001, "tokenizer.json")
    for raw in (b"", b"[" * 900, b"[]", b"{", b'"x"'):
        with pytest.raises(ZooError, match=r"tokenizer\.json"):
            check(raw, "tokenizer.json")


@pytest.mark.parametrize("expression", ["(a|aa)+$", "(x+x+)+y", "([a-z]+)*1"])
def test_an_expression_that_tries_for_ever_is_one_line(expression) -> None:
    data = json.loads(TINY.read_text())
    data["pre_tokenizer"] = {"type": "Split", "pattern": {"Regex": expression}, "behavior": "Isolated", "invert": False}
    library = load(json.dumps(data).encode(), "tokenizer.json")
    text = ("a" if "y" not in expression else "x") * 40 + "b"
    begun = time.process_time()
    with contextlib.suppress(ZooError):  # the library may give up, and must not panic
        encode(library, text, special=True)
    assert time.process_time() - begun < 30
