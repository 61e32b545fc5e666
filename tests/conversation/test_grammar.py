"""Calls that a grammar enforces: whatever random choices it leads, the reader finds calls that fit their schemas."""

from __future__ import annotations

import json
import random
from pathlib import Path

import jsonschema
import pytest
import zoo_tiny

from tests.conversation.formats import PYTHONIC, declared
from tests.conversation.reading import read
from zoo.conversation.grammar import GrammarWriter, Tool
from zoo.declarations.conversation import Thinking, ToolFormat
from zoo.engine.text import Tokenizer
from zoo.errors import UsageError
from zoo.structured import Structure
from zoo.structured.guide import Guide

NAME = {"type": "string", "maxLength": 5}
TOOLS = (
    Tool("weather", {"type": "object", "properties": {"city": NAME, "days": {"$ref": "#/$defs/days"}},
                     "required": ["city"], "additionalProperties": False, "$defs": {"days": {"enum": [1, 2, None]}}}),
    Tool("now", {"type": "object", "properties": {"zone": NAME, "utc": {"type": "boolean"}},
                 "additionalProperties": False}),
    Tool("stop", {"type": "object", "properties": {}, "additionalProperties": False}),
)  # fmt: skip
SPECIAL = ToolFormat(calls="list", start="<|user|>", end="<|system|>")
FORMATS = {
    "hermes": declared("qwen2.5-7b-instruct"), "llama": declared("llama3.1-8b-instruct"),
    "mistral": declared("mistral-7b-instruct-v0.3"), "deepseek": declared("deepseek-r1-distill-qwen-7b"),
    "pythonic": PYTHONIC, "special": SPECIAL,
    "args": ToolFormat(calls="named", before="[TOOL_CALLS]", separator="[ARGS]"),
}  # fmt: skip


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer(Path(zoo_tiny.__file__).parent / "checkpoint")


@pytest.fixture(scope="module")
def guide(tokenizer) -> Guide:
    pytest.importorskip("llguidance")
    return Guide(tokenizer.to_json(), 2048, [2, 6])


def written(guide: Guide, tokenizer: Tokenizer, grammar: str, seed: int) -> str:
    """Write a text by chance within a grammar, ending where it may."""
    following, chance, ids = guide.compile(grammar), random.Random(seed), []
    for _ in range(600):
        if following.complete:
            break
        allowed = following.allowed().nonzero()[0].tolist()
        if ends := [token for token in allowed if token in (2, 6)]:
            if chance.random() < 0.5:
                ids.append(ends[0])
                break
            allowed = [token for token in allowed if token not in (2, 6)] or allowed
        token = chance.choice(allowed)
        following.accept(token)
        ids.append(token)
    return tokenizer.decode([token for token in ids if token not in (2, 6)], skip_special=False)


@pytest.mark.parametrize("parallel", [False, True])
@pytest.mark.parametrize("name", FORMATS)
def test_what_a_grammar_leads_to_is_read_as_calls(guide, tokenizer, name, parallel) -> None:
    form, schemas = FORMATS[name], {tool.name: tool.parameters for tool in TOOLS}
    special = {text: tokenizer.id_of(text) for text in ("<|user|>", "<|system|>")}
    counts = set()
    for seed in range(12):
        grammar = GrammarWriter(special).calls(form, TOOLS, parallel, None, False)
        text = written(guide, tokenizer, grammar, seed)
        found = read(text, form, tuple(schemas), size=5)
        assert found["calls"], text
        assert found["content"] == "", text
        for tool, arguments in found["calls"]:
            jsonschema.validate(arguments, schemas[tool])
        counts.add(len(found["calls"]))
    assert counts == {1} if not parallel else max(counts) > 1


@pytest.mark.parametrize("name", ["hermes", "mistral", "deepseek"])
def test_an_answer_calls_a_tool_or_has_its_form(guide, tokenizer, name) -> None:
    schema = {"type": "array", "items": {"enum": [1, 2]}, "maxItems": 3}
    kinds = set()
    for seed in range(16):
        grammar = GrammarWriter({}).calls(
            FORMATS[name], TOOLS, False, None, False, otherwise=Structure("schema", schema)
        )
        found = read(written(guide, tokenizer, grammar, seed), FORMATS[name], [tool.name for tool in TOOLS])
        kinds.add(bool(found["calls"]))
        if not found["calls"]:
            jsonschema.validate(json.loads(found["content"]), schema)
    assert kinds == {False, True}


@pytest.mark.parametrize("opened", [False, True])
def test_thoughts_may_come_before_a_form(guide, tokenizer, opened) -> None:
    thinking = Thinking()
    grammar = GrammarWriter({}).form(Structure("schema", {"enum": [1, 2]}), thinking, opened)
    begin = "Hm, so.</think>\n" if opened else "<think>Hm, so.</think>\n"
    for text, good in ((f"{begin}2", True), (f"{begin}3", False), ("2", not opened)):
        following = guide.compile(grammar)
        for token in tokenizer.encode(text, special=False):
            if not following.allowed()[token]:
                assert not good, text
                break
            following.accept(token)
        else:
            assert good == bool(following.complete or following.allowed()[2]), text


def test_a_tool_that_cannot_be_followed_is_named() -> None:
    with pytest.raises(UsageError, match=r"the tool 'odd': .*itself"):
        GrammarWriter({}).calls(FORMATS["hermes"], [Tool("odd", {"$ref": "http://a"})], True, None, False)


def test_markers_that_are_tokens_of_the_vocabulary(tokenizer) -> None:
    """Families add their markers to the vocabulary as tokens that are not special: a grammar names those by id."""
    pytest.importorskip("llguidance")
    from tokenizers import AddedToken
    from tokenizers import Tokenizer as Library

    library = Library.from_str(tokenizer.to_json())
    library.add_tokens([AddedToken(text, normalized=False) for text in ("<tool_call>", "</tool_call>", "</think>")])
    size = library.get_vocab_size()
    guide = Guide(library.to_str(), size, [2, 6])
    schemas = {tool.name: tool.parameters for tool in TOOLS}
    for seed in range(6):
        writer, chance, ids = GrammarWriter(guide.special), random.Random(seed), []
        following = guide.compile(writer.calls(FORMATS["hermes"], TOOLS, True, Thinking(), True))
        while not following.complete and len(ids) < 2000:
            allowed = following.allowed().nonzero()[0].tolist()
            if 2 in allowed:
                break
            token = chance.choice(allowed)
            if library.token_to_id("</think>") in allowed:
                token = library.token_to_id("</think>")
            following.accept(token)
            ids.append(token)
        found = read(library.decode(ids, skip_special_tokens=False), FORMATS["hermes"], tuple(schemas), opened=True,
                     thinking=Thinking())  # fmt: skip
        assert found["calls"]
        for tool, arguments in found["calls"]:
            jsonschema.validate(arguments, schemas[tool])
