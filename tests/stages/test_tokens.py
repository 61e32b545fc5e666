"""Special token ids of a recipe: configuration, tokenizer, template, declaration."""

from __future__ import annotations

import json
import logging

import pytest

from tests.builds import architecture, write_checkpoint
from tests.tokenizer.made import WORDS, words, write
from zoo.declarations.family import Tokens
from zoo.sources.folder import open_folder
from zoo.stages.tokens import resolve_tokens

END = len(WORDS)
TEMPLATE = "{% for m in messages %}{{ m.content }}<|end|>{% endfor %}"


class Declared:
    name, chat_template, tokens = "fine", None, Tokens()


@pytest.fixture
def folder(tmp_path):
    return write_checkpoint(tmp_path / "ck", architecture())


def resolve(folder, caplog, declared=None, **files):
    write(folder, tokenizer_json=words("<|end|>"), **files)
    caplog.clear()
    with caplog.at_level(logging.WARNING, "zoo"):
        tokens = resolve_tokens(declared, open_folder(folder), architecture().vocab_size)
    return tokens, [record.getMessage() for record in caplog.records]


def test_the_end_of_a_turn_is_added(folder, caplog) -> None:
    tokens, lines = resolve(folder, caplog, chat_template_jinja=TEMPLATE)
    assert tokens.eos_token_id == (2, END)
    assert lines == [
        f"ck: its chat template ends the assistant's turn with <|end|>, id {END}, which its eos ids (2) lack: added"
    ]
    tokens, lines = resolve(folder, caplog, generation_config_json={"eos_token_id": [END, 2]})
    assert (tokens.eos_token_id, lines) == ((END, 2), [])


def test_a_tokenizers_eos_alone_is_named(folder, caplog) -> None:
    tokens, lines = resolve(folder, caplog, tokenizer_config_json={"eos_token": "<|end|>"})
    assert tokens.eos_token_id == (2,)
    assert lines == [
        f"ck: its tokenizer's eos_token <|end|> ({END}) is not one of its eos ids (2); "
        f"if answers run on, --stop-token-ids {END}"
    ]


def test_a_tokenizers_eos_stands_where_nothing_is_stated(folder, caplog) -> None:
    (folder / "config.json").write_text('{"model_type": "flat", "vocab_size": 101}')
    tokens, lines = resolve(folder, caplog, tokenizer_config_json={"eos_token": "</s>"})
    assert (tokens.eos_token_id, len(lines)) == ((2,), 1)


def test_a_declaration_decides(folder, caplog) -> None:
    declared = Declared()
    declared.chat_template = TEMPLATE
    assert resolve(folder, caplog, declared)[0].eos_token_id == (2, END)
    declared.tokens = Tokens(eos_token_id=1, override="known to be right")
    assert resolve(folder, caplog, declared)[0].eos_token_id == (1,)


def test_ids_past_the_vocabulary_are_left_out(folder, caplog) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "pad_token_id": 101}))
    tokens, lines = resolve(folder, caplog, generation_config_json={"eos_token_id": [2, 101, 500]})
    assert (tokens.eos_token_id, tokens.pad_token_id) == ((2,), None)
    assert lines == ["ck: eos_token_id 101, 500, past the vocabulary of 101, is left out: the model cannot write it"]


def test_a_tokenizer_that_cannot_be_read_is_the_builds_matter(folder, caplog) -> None:
    write(folder, chat_template_jinja=TEMPLATE)
    (folder / "tokenizer.json").write_text("{}")
    assert resolve_tokens(None, open_folder(folder), 101).eos_token_id == (2,)
