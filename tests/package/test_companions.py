"""What travels beside the weights, and what a package makes of it."""

from __future__ import annotations

import json

import pytest

from tests.builds import architecture, make_recipe, write_checkpoint
from zoo.declarations.recipe import TokenIds
from zoo.errors import ZooError
from zoo.package.companions import companion_files
from zoo.sources.folder import open_folder

TOKENIZER = {"model": {"type": "BPE", "vocab": {"a": 0, "b": 99}}, "added_tokens": [{"id": 100, "content": "<x>"}]}


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
        ({**TOKENIZER, "added_tokens": [{"id": 101, "content": "<y>"}]}, "go up to id 101, but vocab_size is 101"),
        ({"model": {"vocab": {"a": 200}}}, "go up to id 200"),
        ({"model": {"vocab": [["a", 0.0]] * 102}}, "go up to id 101"),
        ({"model": {}}, "holds no vocabulary"),
        ([], "not an object"),
    ],
)
def test_a_tokenizer_that_does_not_belong_to_the_weights(folder, tokenizer, message):
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    with pytest.raises(ZooError, match=message) as caught:
        collect(folder)
    assert "ck/tokenizer.json" in str(caught.value)


def test_fewer_tokens_than_the_model_are_fine(folder):
    (folder / "tokenizer.json").write_text('{"model": {"vocab": {"a": 0}}, "added_tokens": []}')
    assert "tokenizer.json" in collect(folder)[0]


def test_a_bare_sentencepiece_model_that_is_none(folder):
    (folder / "tokenizer.model").write_bytes(b"\xff\xfe nonsense")
    with pytest.raises(ZooError, match=r"ck/tokenizer\.model: no sentencepiece model"):
        collect(folder)
