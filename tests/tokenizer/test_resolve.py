"""One tokenizer from the files of a checkpoint: the same ids and texts as transformers'."""

from __future__ import annotations

import json

import pytest

from tests.tokenizer.made import FLAGS, WORDS, in_folder, words, write
from zoo.errors import ZooError
from zoo.tokenizer.files import read_files
from zoo.tokenizer.resolve import resolve_tokenizer

NEXT = len(WORDS)
IM_END = {**FLAGS, "content": "<|im_end|>"}
PLAIN = {**IM_END, "special": False, "normalized": True}
ARRANGEMENTS = {
    "complete": {},
    "decoder in tokenizer_config": {"tokenizer_config_json": {"added_tokens_decoder": {str(NEXT): IM_END}}},
    "decoder, flags of a known token changed": {
        "tokenizer_config_json": {"added_tokens_decoder": {"2": {**FLAGS, "content": "</s>", "lstrip": True}}}
    },
    "decoder with an id that is not the next": {"tokenizer_config_json": {"added_tokens_decoder": {"900": IM_END}}},
    "decoder, not special": {"tokenizer_config_json": {"added_tokens_decoder": {str(NEXT): PLAIN}}},
    "eos alone": {"tokenizer_config_json": {"eos_token": "<|im_end|>"}},
    "eos alone, in the map": {"special_tokens_map_json": {"eos_token": "<|im_end|>"}},
    "eos as an object in the map": {"special_tokens_map_json": {"eos_token": IM_END}},
    "the map does not count beside a decoder": {
        "tokenizer_config_json": {"added_tokens_decoder": {}}, "special_tokens_map_json": {"eos_token": "<|im_end|>"},
    },
    "eos is a word": {"tokenizer_config_json": {"eos_token": "zoo"}},
    "additional": {"tokenizer_config_json": {"additional_special_tokens": ["<|im_end|>", "<|im_start|>"]}},
    "extra": {"tokenizer_config_json": {"extra_special_tokens": ["<|im_end|>"]}},
    "extra by name": {"tokenizer_config_json": {"extra_special_tokens": {"image_token": "<|im_end|>"}}},
    "named by the model": {"tokenizer_config_json": {"image_token": "<|im_end|>"}},
    "additional in the map": {"special_tokens_map_json": {"additional_special_tokens": ["<|im_end|>"]}},
    "added_tokens.json": {"added_tokens_json": {"<|im_end|>": NEXT, "<|im_start|>": NEXT + 1}},
    "added_tokens.json, special by name": {
        "added_tokens_json": {"<|im_end|>": NEXT}, "tokenizer_config_json": {"eos_token": "<|im_end|>"},
    },
    "all of them": {
        "added_tokens_json": {"<|im_start|>": NEXT + 2},
        "tokenizer_config_json": {
            "added_tokens_decoder": {str(NEXT): IM_END}, "eos_token": "<|im_end|>", "pad_token": "<|pad|>",
            "additional_special_tokens": ["<|im_start|>"],
        },
        "special_tokens_map_json": {"eos_token": "</s>"},
    },
    "null tokens": {"tokenizer_config_json": {"bos_token": None, "eos_token": "</s>", "pad_token": None}},
    "split specials": {"tokenizer_config_json": {"split_special_tokens": True, "eos_token": "</s>"}},
}  # fmt: skip
TEXTS = (
    "Hello there <|im_end|> zoo",
    "<|im_start|>Hello<|im_end|>",
    " </s>  zoo <s>",
    "<|pad|>im end",
    "zoo </s>there",
    "",
)


@pytest.mark.parametrize("name", ARRANGEMENTS)
def test_it_encodes_and_decodes_as_transformers(tmp_path, name) -> None:
    transformers = pytest.importorskip("transformers")
    from zoo.engine.text import Tokenizer

    folder = write(tmp_path / "ck", tokenizer_json=words(), config_json={"model_type": "x"}, **ARRANGEMENTS[name])
    auto = transformers.AutoTokenizer.from_pretrained(folder)
    companion = in_folder(folder)
    files = read_files(companion, "ck")
    resolved = resolve_tokenizer(companion, files)
    package = write(
        tmp_path / "package", **{key: value for key, value in ARRANGEMENTS[name].items() if "config" in key}
    )
    (package / "tokenizer.json").write_bytes(resolved.raw)
    ours = Tokenizer(package)
    for text in TEXTS:
        ids = auto.encode(text)
        assert ours.encode(text) == ids, text
        for skip in (True, False):
            assert ours.decode(ids, skip_special=skip) == auto.decode(ids, skip_special_tokens=skip), text
    assert files.special_tokens() == auto.special_tokens_map
    assert resolved.tokens == {index: str(token) for index, token in auto.added_tokens_decoder.items()}


def test_what_is_complete_stays_as_it_is(tmp_path) -> None:
    raw = json.dumps(words("<|im_end|>"), indent=3)
    folder = write(tmp_path, tokenizer_json=raw, tokenizer_config_json={"added_tokens_decoder": {str(NEXT): IM_END}})
    companion = in_folder(folder)
    assert resolve_tokenizer(companion, read_files(companion, "ck")).raw == raw.encode()


def test_a_token_whose_stated_id_is_another_is_named(tmp_path) -> None:
    settings = {"added_tokens_decoder": {"900": IM_END}}
    companion = in_folder(write(tmp_path, tokenizer_json=words(), tokenizer_config_json=settings))
    assert resolve_tokenizer(companion, read_files(companion, "ck")).moved == {"<|im_end|>": (900, NEXT)}


BAD = {
    "tokenizer_config_json": [
        {"added_tokens_decoder": []}, {"added_tokens_decoder": {"x": IM_END}}, {"added_tokens_decoder": {"3": "text"}},
        {"added_tokens_decoder": {"3": {"content": 3}}}, {"added_tokens_decoder": {"-1": IM_END}},
        {"added_tokens_decoder": {"3": {**IM_END, "special": "yes"}}}, {"eos_token": 2}, {"eos_token": {"id": 2}},
        {"additional_special_tokens": "<x>"}, {"additional_special_tokens": [3]}, [], "{",
    ],
    "added_tokens_json": [{"<x>": "many"}, {"<x>": True}, {"<x>": -2}, [], "{"],
    "special_tokens_map_json": [{"bos_token": ["<x>"]}, {"extra_special_tokens": [None]}, []],
}  # fmt: skip


@pytest.mark.parametrize(("name", "content"), [(name, content) for name, all_ in BAD.items() for content in all_])
def test_bad_files_are_one_line(tmp_path, name, content) -> None:
    companion = in_folder(write(tmp_path, tokenizer_json=words(), **{name: content}))
    with pytest.raises(ZooError, match=r"^ck/") as caught:
        resolve_tokenizer(companion, read_files(companion, "ck"))
    assert "\n" not in str(caught.value)


def bytes_and_merges() -> tuple[dict[str, int], str]:
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=300, initial_alphabet=alphabet, show_progress=False)
    made.train_from_iterator(["the zoo there is the 12345 zoo's zoo", "naïve cafés in the zoo"] * 5, trainer)
    model = json.loads(made.to_str())["model"]
    vocab = {**model["vocab"], "<|endoftext|>": len(model["vocab"])}
    return vocab, "#version: 0.2\n" + "\n".join(" ".join(pair) for pair in model["merges"]) + "\n"


@pytest.mark.parametrize("kind", ["GPT2Tokenizer", "Qwen2Tokenizer", "Qwen2TokenizerFast"])
def test_vocab_and_merges_alone(tmp_path, kind) -> None:
    transformers = pytest.importorskip("transformers")
    vocab, merges = bytes_and_merges()
    settings = {"tokenizer_class": kind, "eos_token": "<|endoftext|>", "additional_special_tokens": ["<|im_end|>"]}
    folder = write(tmp_path, vocab_json=vocab, merges_txt=merges, tokenizer_config_json=settings)
    auto = transformers.AutoTokenizer.from_pretrained(folder)
    companion = in_folder(folder)
    resolved = resolve_tokenizer(companion, read_files(companion, "ck"))
    from tokenizers import Tokenizer

    ours = Tokenizer.from_str(resolved.raw.decode())
    for text in ("the zoo's 12345 cafés", " naïve\u0301  <|im_end|>\n\n<|endoftext|>x", "THERE'S", "日本 🦓"):
        assert ours.encode(text).ids == auto.encode(text), text
        assert ours.decode(auto.encode(text), skip_special_tokens=False) == auto.decode(auto.encode(text))


@pytest.mark.parametrize(
    ("vocab", "merges", "settings"),
    [
        ({"a": 0}, "a b\n", {"tokenizer_class": "Qwen2Tokenizer"}),
        ([], "", {"tokenizer_class": "GPT2Tokenizer"}),
        ({"a": 0}, "", {"tokenizer_class": "PreTrainedTokenizerFast"}),
        ({"a": 0}, "", {"tokenizer_class": "NoSuchTokenizer", "auto_map": {"AutoTokenizer": ["code.X", None]}}),
    ],
)
def test_vocab_and_merges_that_nobody_can_read(tmp_path, vocab, merges, settings) -> None:
    pytest.importorskip("transformers")
    companion = in_folder(write(tmp_path, vocab_json=vocab, merges_txt=merges, tokenizer_config_json=settings))
    with pytest.raises(ZooError, match=r"^ck: vocab\.json and merges\.txt: .*bring a tokenizer\.json"):
        resolve_tokenizer(companion, read_files(companion, "ck"))
