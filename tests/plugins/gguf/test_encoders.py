"""Encoders as GGUF files: llama.cpp's own embeddings of them, and what it cannot compute."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

import zoo
from tests.encoders import WORDS, cosines, describe, make_encoder
from tests.plugins.gguf import llamacpp, made
from tests.plugins.gguf.test_source import opened
from tests.plugins.gguf.test_tokenizer import unigrams
from zoo.cli import app
from zoo.errors import ZooError

gguf = pytest.importorskip("gguf")
pytest.importorskip("transformers")

NUMBERS = {"hidden_size": 64, "intermediate_size": 96, "max_position_embeddings": 64}
TEXTS = ["The cat sat on a mat", "dogs", "many birds saw the old house, with red trees"]


def make_bert(folder: Path, *, lowercase: bool = True, **numbers: Any) -> Path:
    """Save a random BERT with a WordPiece tokenizer."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    make_encoder(folder, **{**NUMBERS, **numbers})
    specials = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", "[MASK]"]
    vocabulary = {word: index for index, word in enumerate([*specials, *WORDS, "##s", ","])}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 2), ("[CLS]", 1))
    tokenizer.add_special_tokens(specials)
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def build(folder: Path, precision: str) -> Path:
    return zoo.build(folder, precision, output=folder.with_name(precision), target="gguf", threads=1).path


@pytest.mark.parametrize(("pooling", "precision"), [("mean_tokens", "fp16"), ("cls_token", "int8")])
def test_llama_cpp_embeds_as_zoo_does(pooling: str, precision: str, tmp_path: Path) -> None:
    pytest.importorskip("xllamacpp")
    folder = make_bert(tmp_path / "bert")
    describe(folder, pooling=pooling)
    package = build(folder, precision)
    wanted = zoo.open(zoo.build(folder, "fp32", output=tmp_path / "own", threads=1).path, threads=1).embed(TEXTS)
    vectors, tokens = llamacpp.embeddings(package / "model.gguf", TEXTS)
    assert tokens == sum(wanted.tokens)
    assert cosines(vectors, wanted.vectors).min() > (0.9999 if precision == "fp16" else 0.995)
    fields = gguf.GGUFReader(package / "model.gguf").fields
    assert fields["bert.pooling_type"].contents() == (1 if pooling == "mean_tokens" else 2)
    with pytest.raises(ZooError, match="embeds texts for target 'gguf'; its runtime serves it"):
        zoo.open(package)
    done = CliRunner().invoke(app, ["verify", str(package), "--weights", str(folder)])
    assert "embeds texts for target 'gguf'" in (done.stderr or str(done.exception))


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (lambda folder: make_encoder(folder, labels=1, **NUMBERS), "the head of a classifier"),
        (lambda folder: make_encoder(folder, "roberta", **NUMBERS), "positions that begin behind padding"),
        (lambda folder: make_bert(folder, hidden_act="relu"), "hidden_act 'relu'"),
        (lambda folder: make_bert(folder, lowercase=False), "this tokenizer keeps their case"),
        (lambda folder: make_encoder(folder, **NUMBERS), "must be WordPiece, not 'WordLevel'"),
        (lambda folder: describe(make_bert(folder), pooling="max_tokens"), "llama.cpp does not pool"),
    ],
)
def test_what_llama_cpp_does_not_compute_is_refused(made: Any, said: str, tmp_path: Path) -> None:
    made(tmp_path / "bert")
    with pytest.raises(ZooError, match=said):
        build(tmp_path / "bert", "fp16")
    assert not (tmp_path / "fp16").exists()


def write(path: Path, folder: Path, pooling: int = 0, **more: Any) -> Path:
    """Write a BERT as the converter does; the pooler is of no use to an embedding."""
    from transformers import BertModel

    model = BertModel.from_pretrained(folder)
    told = json.loads((folder / "tokenizer.json").read_text())
    special = {one["content"] for one in told["added_tokens"]}
    words = sorted(told["model"]["vocab"], key=told["model"]["vocab"].get)
    tokenizer = {
        "tokenizer.ggml.model": "bert",
        "tokenizer.ggml.tokens": [
            word if word in special else word[2:] if word.startswith("##") else f"▁{word}" for word in words
        ],
        "tokenizer.ggml.token_type": [3 if word in special else 1 for word in words],
        "tokenizer.ggml.token_type_count": 2,
        "tokenizer.ggml.seperator_token_id": 2,
        "tokenizer.ggml.bos_token_id": 1, "tokenizer.ggml.unknown_token_id": 3, "tokenizer.ggml.padding_token_id": 0,
    }  # fmt: skip
    state = {name: weight for name, weight in model.state_dict().items() if "pooler" not in name}
    numbers = {"pooling_type": pooling, "attention__causal": False}
    return made.write(path, model, "bert", {**tokenizer, **more}, state=state, **numbers)


@pytest.mark.parametrize("lowercase", [True, False])
def test_a_file_embeds_as_its_folder(tmp_path: Path, lowercase: bool) -> None:
    """And as llama.cpp over the file; what the file says of the case of letters is kept."""
    folder = make_bert(tmp_path / "bert", lowercase=lowercase, vocab_size=5 + len(WORDS) + 2)
    describe(folder, pooling="cls_token")
    path = write(tmp_path / "m.gguf", folder, 2, **{"tokenizer.ggml.normalizer.lowercase": lowercase})
    own, same = (
        zoo.build(source, "int8", output=tmp_path / out, threads=1, smoothing="none")
        for source, out in ((path, "out"), (folder, "same"))
    )
    data = [(package.path / "model.onnx.data").read_bytes() for package in (own, same)]
    assert data[0] == data[1]
    wanted, got = (zoo.open(package.path, threads=1).embed(TEXTS) for package in (same, own))
    assert got.tokens == wanted.tokens
    assert np.array_equal(got.vectors, wanted.vectors)


def test_a_file_embeds_as_llama_cpp_does(tmp_path: Path) -> None:
    pytest.importorskip("xllamacpp")
    folder = make_bert(tmp_path / "bert", vocab_size=5 + len(WORDS) + 2)
    path = write(tmp_path / "m.gguf", folder, 1)
    got = zoo.open(zoo.build(path, "fp32", output=tmp_path / "out", threads=1).path, threads=1).embed(TEXTS)
    vectors, tokens = llamacpp.embeddings(path, TEXTS)
    assert tokens == sum(got.tokens)
    assert cosines(vectors, got.vectors).min() > 0.9999


def test_positions_behind_padding(tmp_path: Path) -> None:
    """A file leaves out the rows of XLM-RoBERTa's table that are never read; a package has them again."""
    pytest.importorskip("xllamacpp")
    from safetensors.torch import load_file

    metadata, _ = unigrams(tmp_path)
    metadata["tokenizer.ggml.token_type_count"] = 1
    size = len(metadata["tokenizer.ggml.tokens"])
    model = make_encoder(tmp_path / "in", "xlm-roberta", **{**NUMBERS, "vocab_size": size})
    state = {name: weight for name, weight in model.state_dict().items() if "pooler" not in name}
    state["embeddings.position_embeddings.weight"] = state["embeddings.position_embeddings.weight"][2:]
    numbers = {"attention__causal": False, "pooling_type": 2, "context_length": 62}
    path = made.write(tmp_path / "m.gguf", model, "bert", metadata, state=state, **numbers)
    checkpoint, stored = opened(path), load_file(tmp_path / "in/model.safetensors")
    for name, info in checkpoint.tensors.items():
        weight = stored.get(name, stored.get(name.removeprefix("roberta."))).numpy()
        rows = checkpoint.read(name, 0, info.shape[0])
        assert info.shape == weight.shape
        skipped = 2 if "position" in name else 0
        assert np.array_equal(rows[skipped:], weight[skipped:]), name
    got = zoo.open(zoo.build(path, "fp32", output=tmp_path / "out", threads=1).path, threads=1).embed(TEXTS)
    vectors, tokens = llamacpp.embeddings(path, TEXTS)
    assert tokens == sum(got.tokens)
    assert cosines(vectors, got.vectors).min() > 0.9999


@pytest.mark.parametrize(
    ("pooling", "more", "said"),
    [
        (
            0,
            {"tokenizer.ggml.model": "gpt2"},
            "an encoder with a byte-level tokenizer, as RoBERTa's, which is not read",
        ),
        (
            0,
            {"tokenizer.ggml.model": "t5", "tokenizer.ggml.padding_token_id": 99},
            "padding_token_id is 99, not 1 to 8",
        ),
        (4, {}, "its pooling_type is 4, which is not read; known: [1, 2, 3]"),
        (
            0,
            {"tokenizer.ggml.seperator_token_id": 9},
            "seperator_token_id is 9, which is not one of its control tokens",
        ),
    ],
)
def test_files_of_encoders_that_are_not_read(tmp_path: Path, pooling: int, more: Any, said: str) -> None:
    folder = make_bert(tmp_path / "bert")
    with pytest.raises(ZooError) as error:
        zoo.build(write(tmp_path / "m.gguf", folder, pooling, **more), "fp32", output=tmp_path / "out")
    assert said in str(error.value)
    assert not (tmp_path / "out").exists()
