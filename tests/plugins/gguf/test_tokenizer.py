"""Tokenizers of GGUF files: the ids of llama.cpp's own, the names, templates and ends of the file."""

from __future__ import annotations

import json
import random
import unicodedata
from typing import Any

import pytest

from tests.engine.made import LINES, byte_level
from zoo.engine.text import Tokenizer
from zoo.errors import ZooError
from zoo.tokenizer.files import read_files
from zoo.tokenizer.resolve import resolve_tokenizer
from zoo.tokenizer.templates import chat_templates

gguf_tokenizer = pytest.importorskip("zoo_gguf.tokenizer", reason="install the repository anew: pip install -e .")
from zoo_gguf.pretokenizers import PRE_TOKENIZERS  # noqa: E402

KEY = "tokenizer.ggml."
WORDS = (
    *" ".join(LINES).split(), "don't", "I'LL", "12345", "3.14", "naïve", "日本語", "🦓", "e\u0301", "हिन्दी", "ﬁ",
    "foo_bar",
    "camelCase", "HTTPServer", "Ελλάδα", "<|user|>", "[TURN]", "<|end|>", "/path/", "!?", "\u00a0", "\u200d",
)  # fmt: skip
SPACES = (" ", "  ", "   ", "\n", "\n\n", "\t", "\r\n", "")


def texts(count: int = 150) -> list[str]:
    draw = random.Random(0)
    made = ["".join(draw.choice(WORDS) + draw.choice(SPACES) for _ in range(draw.randint(1, 9))) for _ in range(count)]
    return [draw.choice(SPACES) + text for text in made]


def byte_pairs(pre: str = "gpt-2", **more: Any) -> dict[str, Any]:
    """Metadata of a trained byte-level tokenizer with a special and a user-defined token more."""
    model = json.loads(byte_level().to_str())["model"]
    tokens = [*sorted(model["vocab"], key=model["vocab"].get), "<|user|>", "[TURN]"]
    control = {"<|begin|>", "<|end|>", "<|user|>"}
    return {
        f"{KEY}model": "gpt2",
        f"{KEY}pre": pre,
        f"{KEY}tokens": tokens,
        f"{KEY}token_type": [3 if text in control else 4 if text == "[TURN]" else 1 for text in tokens],
        f"{KEY}merges": [merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]],
        f"{KEY}bos_token_id": 0,
        f"{KEY}eos_token_id": 1,
        **more,
    }


def sentencepiece(tmp_path, **more: Any) -> dict[str, Any]:
    """Metadata of a trained sentencepiece model with runs of spaces among its pieces."""
    spm = pytest.importorskip("sentencepiece")
    (tmp_path / "text").write_text("\n".join(LINES * 40))
    spm.SentencePieceTrainer.train(
        input=str(tmp_path / "text"), model_prefix=str(tmp_path / "m"), vocab_size=340, model_type="bpe",
        byte_fallback=True,
        normalization_rule_name="identity", remove_extra_whitespaces=False, hard_vocab_limit=False, minloglevel=2,
        user_defined_symbols=["[TURN]", "▁▁", "▁▁▁"], control_symbols=["<|user|>", "<|end|>"],
    )  # fmt: skip
    model = spm.SentencePieceProcessor(model_file=str(tmp_path / "m.model"))
    ids = range(model.get_piece_size())
    kinds = {2: model.is_unknown, 3: model.is_control, 6: model.is_byte}
    types = [next((kind for kind, is_kind in kinds.items() if is_kind(index)), 1) for index in ids]
    pieces = [model.id_to_piece(index) for index in ids]
    user = {"[TURN]", "▁▁", "▁▁▁"}
    return {
        f"{KEY}model": "llama",
        f"{KEY}tokens": pieces,
        f"{KEY}scores": [model.get_score(index) for index in ids],
        f"{KEY}token_type": [4 if piece in user else kind for piece, kind in zip(pieces, types, strict=True)],
        f"{KEY}unknown_token_id": 0,
        f"{KEY}bos_token_id": 1,
        f"{KEY}eos_token_id": 2,
        **more,
    }


def opened(metadata: dict[str, Any], folder: Any) -> Tokenizer:
    """Open the tokenizer as a package has it."""
    files = gguf_tokenizer.companions(metadata, "model.gguf")
    resolved = resolve_tokenizer(files.get, read_files(files.get, "model.gguf"))
    assert resolved is not None
    (folder / "tokenizer.json").write_bytes(resolved.raw)
    return Tokenizer(folder)


@pytest.fixture(scope="module")
def llamacpp():
    pytest.importorskip("gguf", reason="writes the files")
    pytest.importorskip("xllamacpp", reason="llama.cpp's own tokenizer: pip install xllamacpp")
    from tests.plugins.gguf import llamacpp

    return llamacpp


@pytest.mark.parametrize("pre", PRE_TOKENIZERS)
def test_byte_pairs_are_those_of_llama_cpp(tmp_path, llamacpp, pre) -> None:
    metadata = byte_pairs(pre)
    encode, ours = llamacpp.encoder(llamacpp.write(tmp_path / "m.gguf", metadata)), opened(metadata, tmp_path)
    for text in texts():
        if PRE_TOKENIZERS[pre].composes:  # the published tokenizer composes text, llama.cpp does not
            text = unicodedata.normalize("NFC", text)
        assert ours.encode(text) == encode(text), text


@pytest.mark.parametrize("more", [{}, {"add_space_prefix": False}, {"add_bos_token": False, "add_eos_token": True}])
def test_pieces_are_those_of_llama_cpp(tmp_path, llamacpp, more) -> None:
    metadata = sentencepiece(tmp_path, **{f"{KEY}{name}": value for name, value in more.items()})
    encode, ours = llamacpp.encoder(llamacpp.write(tmp_path / "m.gguf", metadata)), opened(metadata, tmp_path)
    for text in texts():
        ids = encode(text)
        assert ours.encode(text) == ids, text


def word_pieces() -> tuple[dict[str, Any], Any]:
    """Metadata of a WordPiece tokenizer, trained on lowered text, and that tokenizer."""
    from tokenizers import BertWordPieceTokenizer

    trained = BertWordPieceTokenizer()
    trained.train_from_iterator([*LINES, *WORDS], vocab_size=300, min_frequency=1, show_progress=False)
    words = sorted(trained.get_vocab(), key=trained.get_vocab().__getitem__)
    special = {"[PAD]": "padding", "[UNK]": "unknown", "[CLS]": "bos", "[SEP]": "seperator", "[MASK]": "mask"}
    texts = [word if word in special else word[2:] if word.startswith("##") else f"▁{word}" for word in words]
    metadata = {
        f"{KEY}model": "bert",
        f"{KEY}tokens": texts,
        f"{KEY}token_type": [3 if word in special else 1 for word in words],
        **{f"{KEY}{name}_token_id": words.index(word) for word, name in special.items()},
    }
    return metadata, trained


def unigrams(tmp_path) -> tuple[dict[str, Any], Any]:
    """Metadata of a trained sentencepiece model of unigrams with XLM-RoBERTa's ids, and that model."""
    spm = pytest.importorskip("sentencepiece")
    (tmp_path / "text").write_text("\n".join([*LINES, *WORDS] * 40))
    spm.SentencePieceTrainer.train(
        input=str(tmp_path / "text"), model_prefix=str(tmp_path / "m"), vocab_size=320, model_type="unigram",
        hard_vocab_limit=False, minloglevel=2,
    )  # fmt: skip
    model = spm.SentencePieceProcessor(model_file=str(tmp_path / "m.model"))
    pieces = range(3, model.get_piece_size())
    proto = pytest.importorskip("sentencepiece.sentencepiece_model_pb2").ModelProto()
    proto.ParseFromString((tmp_path / "m.model").read_bytes())
    named = {"unknown": 3, "bos": 0, "eos": 2, "seperator": 2, "padding": 1}
    return {
        f"{KEY}model": "t5",
        f"{KEY}tokens": ["<s>", "<pad>", "</s>", "<unk>", *map(model.id_to_piece, pieces)],
        f"{KEY}scores": [0.0] * 4 + [model.get_score(index) for index in pieces],
        f"{KEY}token_type": [3, 3, 3, 2] + [1] * len(pieces),
        f"{KEY}add_space_prefix": True,
        f"{KEY}remove_extra_whitespaces": True,
        f"{KEY}precompiled_charsmap": proto.normalizer_spec.precompiled_charsmap,
        f"{KEY}add_bos_token": True,
        f"{KEY}add_eos_token": True,
        **{f"{KEY}{name}_token_id": index for name, index in named.items()},
    }, model


@pytest.mark.parametrize("begins", [True, False])
def test_unigrams_are_those_of_llama_cpp(tmp_path, llamacpp, begins) -> None:
    metadata, model = unigrams(tmp_path)
    metadata[f"{KEY}add_bos_token"] = begins
    encode, ours = llamacpp.encoder(llamacpp.write(tmp_path / "m.gguf", metadata)), opened(metadata, tmp_path)
    for text in texts():
        ids = ours.encode(text)
        assert ids == [*[0][:begins], *(index + 1 for index in model.encode(text)), 2], text
        assert ids == encode(text), text


def test_word_pieces_are_those_of_llama_cpp(tmp_path, llamacpp) -> None:
    metadata, trained = word_pieces()
    encode, ours = llamacpp.encoder(llamacpp.write(tmp_path / "m.gguf", metadata)), opened(metadata, tmp_path)
    for text in texts():
        assert ours.encode(text, special=False) == trained.encode(text).ids, text
        if "हिन्दी" not in text:  # whose marks the published tokenizer leaves out, and llama.cpp does not
            assert ours.encode(text) == encode(text), text


@pytest.mark.parametrize(
    ("pre", "more", "around"),
    [
        ("gpt-2", {}, ([], [])),
        ("llama-bpe", {}, ([0], [])),
        ("llama-bpe", {"add_bos_token": False}, ([], [])),
        ("qwen2", {"add_bos_token": True, "add_eos_token": True}, ([0], [1])),
    ],
)
def test_tokens_around_a_text(tmp_path, pre, more, around) -> None:
    ours = opened(byte_pairs(pre, **{f"{KEY}{name}": value for name, value in more.items()}), tmp_path)
    before, after = around
    assert ours.encode("dog") == [*before, *ours.encode("dog", special=False), *after]


def test_names_ends_and_templates(tmp_path) -> None:
    metadata = byte_pairs(
        **{f"{KEY}eot_token_id": 380, f"{KEY}padding_token_id": 1, "tokenizer.chat_template": "{{ x }}"}
    )
    files = gguf_tokenizer.companions(metadata, "m")
    read = read_files(files.get, "m")
    assert read.special_tokens() == {"bos_token": "<|begin|>", "eos_token": "<|end|>", "pad_token": "<|end|>"}
    generation = json.loads(files["generation_config.json"])
    assert generation == {"bos_token_id": 0, "eos_token_id": [1, 380], "pad_token_id": 1}
    assert chat_templates(files.get, read) == {"default": "{{ x }}"}
    files = gguf_tokenizer.companions({**metadata, "tokenizer.chat_template.tool_use": "T"}, "m")
    assert chat_templates(files.get, read_files(files.get, "m")) == {"default": "{{ x }}", "tool_use": "T"}
    ours = opened(metadata, tmp_path)
    assert ours.decode(ours.encode("<|user|>dog[TURN]")) == "dog[TURN]"


def test_a_file_without_a_tokenizer_has_no_files() -> None:
    assert gguf_tokenizer.companions({"general.architecture": "llama"}, "m") == {}
    assert gguf_tokenizer.companions({f"{KEY}model": "no_vocab"}, "m") == {}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"pre": "brand-new"},
            "pre-tokenizer 'brand-new' is not known, so its text would be cut by guesswork; known: ",
        ),
        ({"pre": None}, "it names no pre-tokenizer"),
        ({"pre": 3}, "pre-tokenizer 3 is not known"),
        ({"model": "rwkv"}, "a tokenizer of the kind 'rwkv' is not read; known: bert, gpt2, llama, t5"),
        ({"model": "t5"}, "unknown_token_id is 3, which is not one of its control tokens"),
        ({"model": "bert"}, "unknown_token_id is 100, which is not one of its control tokens"),
        ({"model": "llama"}, "scores is missing or empty"),
        ({"model": "llama", "scores": [0.0]}, "tokens, but 1 scores"),
        ({"model": "llama", "scores": [float("nan")] * 382}, "scores must be finite numbers"),
        ({"model": "llama", "scores": [1e39] * 382}, "scores must be finite numbers"),
        (
            {"model": "llama", "scores": [0.0] * 382, "precompiled_charsmap": [9, 0, 0, 0]},
            "is not a table of characters",
        ),
        ({"model": "llama", "scores": [0.0] * 382, "precompiled_charsmap": ["a"]}, "is not a table of characters"),
        ({"model": "llama", "scores": [0.0] * 382, "precompiled_charsmap": [0, 0, 0, 0, 255]}, "a table of characters"),
        ({"model": "llama", "scores": [0.0] * 382, "precompiled_charsmap": 10**12}, "is not a table of characters"),
        ({"tokens": []}, "tokens is missing or empty"),
        ({"tokens": "abc"}, "tokens is missing or empty"),
        ({"tokens": ["a", 3]}, "tokens must hold str alone"),
        ({"tokens": ["a", "a"], "token_type": [1, 1]}, "two tokens are the same text"),
        ({"token_type": [1]}, "but 1 token types"),
        ({"merges": ["a b c"]}, "merge 'a b c' is not of two tokens that make a third"),
        ({"merges": ["a zz"]}, "is not of two tokens that make a third"),
        ({"bos_token_id": 5000}, "bos_token_id 5000 is not one of its"),
        ({"eot_token_id": -1}, "eot_token_id -1 is not one of its"),
        ({"eos_token_id": True}, "eos_token_id True is not one of its"),
        ({"add_bos_token": 1}, "add_bos_token must be true or false, not 1"),
    ],
)
def test_bad_metadata_is_one_line(change, message) -> None:
    metadata = byte_pairs(**{f"{KEY}{name}": value for name, value in change.items()})
    with pytest.raises(ZooError) as caught:
        gguf_tokenizer.companions(metadata, "model.gguf")
    assert str(caught.value).startswith("model.gguf: ")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
