"""What travels beside the weights, and what a package makes of it."""

from __future__ import annotations

import json

import pytest

from tests.builds import architecture, make_recipe, write_checkpoint
from zoo.declarations.recipe import TokenIds
from zoo.errors import ZooError
from zoo.package.companions import companion_files
from zoo.sources.folder import open_folder

FLAGS = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
TOKENIZER = {
    "version": "1.0",
    "added_tokens": [{"id": 100, "content": "<x>", **FLAGS}],
    "pre_tokenizer": {"type": "Whitespace"},
    "model": {"type": "WordLevel", "vocab": {f"w{index}": index for index in range(100)}, "unk_token": "w0"},
}


@pytest.fixture
def folder(tmp_path):
    return write_checkpoint(tmp_path / "ck", architecture())


def collect(folder, **recipe):
    return companion_files(make_recipe(architecture()).model_copy(update=recipe), open_folder(folder))


def test_copies_what_belongs_to_the_model_and_nothing_else(folder):
    kept = {
        "tokenizer.json": json.dumps(TOKENIZER), "tokenizer_config.json": '{"a": 1}', "special_tokens_map.json": "{}",
        "generation_config.json": '{"bos_token_id": 1}', "chat_template.jinja": "{{ x }}", "LICENSE.txt": "l",
        "USE_POLICY.md": "u", "Notice": "n",
    }  # fmt: skip
    for name, text in {**kept, "README.md": "r", "train.py": "import os"}.items():
        (folder / name).write_text(text)
    files, warnings = collect(folder, tokens=TokenIds(bos_token_id=1, eos_token_id=(2,)))
    assert warnings == []
    assert files.pop("config.json") == (folder / "config.json").read_bytes()
    assert files == {name: text.encode() for name, text in kept.items()}


def test_overridden_token_ids_are_corrected_in_both_files(folder):
    (folder / "generation_config.json").write_text('{"eos_token_id": 0, "top_p": 0.9}')
    files, _ = collect(folder, tokens=TokenIds(bos_token_id=7, eos_token_id=(8, 9), pad_token_id=0))
    config = json.loads(files["config.json"])
    assert (config["bos_token_id"], config["eos_token_id"], config["pad_token_id"]) == (7, [8, 9], 0)
    assert config["model_type"] == "flat"
    assert json.loads(files["generation_config.json"]) == {"eos_token_id": [8, 9], "top_p": 0.9}


def test_a_declared_template_wins(folder):
    (folder / "tokenizer_config.json").write_text('{"chat_template": "old", "legacy": true}')
    (folder / "chat_template.jinja").write_text("older")
    files, _ = collect(folder, chat_template="{{ new }}")
    assert files["chat_template.jinja"] == b"{{ new }}"
    assert json.loads(files["tokenizer_config.json"]) == {"chat_template": "{{ new }}", "legacy": True}
    files, _ = collect(folder)
    assert files["chat_template.jinja"] == b"older"
    assert json.loads(files["tokenizer_config.json"])["chat_template"] == "old"


def test_no_tokenizer_is_a_warning(folder):
    files, warnings = collect(folder)
    assert "tokenizer.json" not in files
    assert warnings == ["ck has no tokenizer: the package builds, but takes no text"]


@pytest.mark.parametrize(
    ("tokenizer", "message"),
    [
        ({**TOKENIZER, "added_tokens": [*TOKENIZER["added_tokens"], {"id": 101, "content": "<y>", **FLAGS}]}, "(<y>)"),
        ({**TOKENIZER, "model": {**TOKENIZER["model"], "vocab": {"w0": 0, "w1": 200}}}, "go up to 200"),
    ],
)
def test_more_tokens_than_the_model_are_a_warning(folder, tokenizer, message):
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    files, warnings = collect(folder)
    assert files["tokenizer.json"] == (folder / "tokenizer.json").read_bytes()
    assert len(warnings) == 1
    assert message in warnings[0]
    assert "past the vocabulary of 101; text with such a token" in warnings[0]


@pytest.mark.parametrize(
    "raw",
    [
        b'{"model": {}}',
        b"[]",
        b"",
        b"\xff\xfe",
        b'{"model": {"type": "BPE", "vocab": {"a": 0}}}',
        b"version https://git-",
    ],
)
def test_a_tokenizer_that_cannot_be_read_stops_the_build(folder, raw):
    (folder / "tokenizer.json").write_bytes(raw)
    with pytest.raises(ZooError, match=r"^ck/tokenizer\.json") as caught:
        collect(folder)
    assert "\n" not in str(caught.value)


def test_ids_past_the_vocabulary_leave_the_configuration(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "pad_token_id": 101, "eos_token_id": [2, 101]}))
    (folder / "generation_config.json").write_text('{"pad_token_id": 500, "eos_token_id": 2}')
    files, _ = collect(folder, tokens=TokenIds(bos_token_id=1, eos_token_id=(2,)))
    made = json.loads(files["config.json"])
    assert (made["pad_token_id"], made["eos_token_id"]) == (None, 2)
    assert json.loads(files["generation_config.json"]) == {"pad_token_id": None, "eos_token_id": 2}


def test_tokens_that_other_files_name_are_in_the_tokenizer(folder):
    (folder / "tokenizer.json").write_text(json.dumps(TOKENIZER))
    (folder / "added_tokens.json").write_text('{"<y>": 101}')
    files, _ = collect(folder)
    made = json.loads(files["tokenizer.json"])
    assert [(token["id"], token["content"]) for token in made["added_tokens"]] == [(100, "<x>"), (101, "<y>")]


def test_a_processors_template_counts_where_the_tokenizer_has_none(folder):
    (folder / "chat_template.json").write_text('{"chat_template": "processor\'s"}')
    assert collect(folder)[0]["chat_template.jinja"] == b"processor's"
    (folder / "tokenizer_config.json").write_text('{"chat_template": "own"}')
    assert "chat_template.jinja" not in collect(folder)[0]


def test_a_template_for_tools_in_a_folder_of_its_own_joins_the_others(folder):
    (folder / "chat_template.jinja").write_text("plain")
    (folder / "additional_chat_templates").mkdir()
    (folder / "additional_chat_templates" / "tool_use.jinja").write_text("tools")
    (folder / "tokenizer_config.json").write_text('{"chat_template": "old", "bos_token": null}')
    files, _ = collect(folder)
    assert "chat_template.jinja" not in files
    named = [{"name": "default", "template": "plain"}, {"name": "tool_use", "template": "tools"}]
    assert json.loads(files["tokenizer_config.json"]) == {"chat_template": named, "bos_token": None}


def test_sampling_that_is_not_applied_is_named(folder):
    stated = {"do_sample": True, "temperature": "hot", "top_p": 0.9, "typical_p": 0.1}
    (folder / "generation_config.json").write_text(json.dumps(stated))
    _, warnings = collect(folder)
    assert warnings[:2] == [
        "ck/generation_config.json: temperature 'hot' is out of range and not applied",
        "ck/generation_config.json: typical_p not applied: "
        "chat samples by temperature, top_k, top_p, min_p, repetition_penalty alone",
    ]


def test_fewer_tokens_than_the_model_are_fine(folder):
    few = {**TOKENIZER, "added_tokens": [], "model": {**TOKENIZER["model"], "vocab": {"w0": 0}}}
    (folder / "tokenizer.json").write_text(json.dumps(few))
    files, warnings = collect(folder)
    assert "tokenizer.json" in files
    assert warnings == []


def test_a_bare_sentencepiece_model_that_is_none(folder):
    (folder / "tokenizer.model").write_bytes(b"\xff\xfe nonsense")
    with pytest.raises(ZooError, match=r"ck/tokenizer\.model: not a sentencepiece model"):
        collect(folder)
