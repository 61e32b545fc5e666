"""Bare ``tokenizer.model`` files: the converted tokenizer gives sentencepiece's own ids."""

from __future__ import annotations

import json
import random

import pytest
import tokenizers
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from zoo.declarations.recipe import TokenIds
from zoo.errors import ZooError
from zoo.sources.sentencepiece import convert
from zoo.tokenizer.files import TokenizerFiles
from zoo.tokenizer.resolve import resolve_tokenizer

spm = pytest.importorskip("sentencepiece")

TEXT = "the cat sat on a mat and then it went home to eat some fish with 12 other cats , happy ."
WORDS = TEXT.split()
STRINGS = [
    "Hello world", "  leading", "trailing  ", "a   b    c", "", " ", "\n\n x\ty", "你好世界，机器学习。今天天气很好",
    "😀🎉👨‍👩‍👧 zz", "naïve café ﬁ ½ Ａ", "▁already", "\x07 ctl", "the cat:\nsat", "0123456789 1,000.50",
    "aaaaaaaaaaaaaaaa", "\u00a0nbsp\u3000wide", "العربية עברית ไทย",
]  # fmt: skip
LLAMA = {
    "model_type": "bpe",
    "byte_fallback": True,
    "normalization_rule_name": "identity",
    "remove_extra_whitespaces": False,
    "split_digits": True,
}
KINDS = {
    "llama": LLAMA,
    "bpe, nfkc": {"model_type": "bpe", "byte_fallback": True},
    "bpe, no prefix": {**LLAMA, "add_dummy_prefix": False},
    "bpe, runs of spaces": {
        **LLAMA,
        "add_dummy_prefix": False,
        "user_defined_symbols": ["<|x|>", *("▁" * n for n in range(2, 12)), "\n\n"],
    },
    "unigram": {"model_type": "unigram"},
    "unigram, bytes": {**LLAMA, "model_type": "unigram", "split_digits": False},
}


@pytest.fixture(scope="module", params=KINDS)
def trained(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("spm")
    draw = random.Random(0)
    lines = [" ".join(draw.choices(WORDS, k=12)) for _ in range(600)] + ["你好 世界 naïve café"] * 20
    (folder / "text").write_text("\n".join(lines))
    spm.SentencePieceTrainer.train(
        input=str(folder / "text"),
        model_prefix=str(folder / "m"),
        vocab_size=420,
        minloglevel=2,
        hard_vocab_limit=False,
        **{"user_defined_symbols": ["<|x|>"], **KINDS[request.param]},
    )
    raw = (folder / "m.model").read_bytes()
    return raw, spm.SentencePieceProcessor(model_proto=raw)


def strings():
    draw = random.Random(1)
    words = [" ".join(draw.choices(WORDS, k=draw.randrange(1, 20))) for _ in range(100)]
    noise = ["".join(draw.choices("ab  th😀你é\n.XQ~", k=draw.randrange(1, 40))) for _ in range(200)]
    return STRINGS + words + noise


def test_gives_the_ids_and_the_text_of_sentencepiece(trained):
    raw, reference = trained
    fast = tokenizers.Tokenizer.from_str(convert(raw, {}, {}, "m").decode())
    assert fast.get_vocab_size() == reference.get_piece_size()
    for text in strings():
        ids = reference.encode(text)
        assert fast.encode(text, add_special_tokens=False).ids == ids, text
        assert fast.encode(text).ids == [1, *ids]
        if reference.unk_id() not in ids:
            assert fast.decode(ids) == reference.decode(ids), text


def test_takes_settings_and_added_tokens_into_account(trained):
    raw, reference = trained
    size = reference.get_piece_size()
    settings = {
        "add_bos_token": False, "add_eos_token": True,
        "added_tokens_decoder": {str(size + 1): {"content": "<end>", "special": True, "lstrip": True}},
    }  # fmt: skip
    fast = tokenizers.Tokenizer.from_str(convert(raw, settings, {"[PAD]": size}, "m").decode())
    assert fast.encode("cat").ids == [*reference.encode("cat"), 2]
    assert fast.token_to_id("[PAD]") == size
    assert fast.encode("cat<end>", add_special_tokens=False).ids[-1] == size + 1


def test_tokens_that_only_the_makers_code_adds_are_declared(trained):
    """Ids behind the pieces, as ChatGLM's code gives them; the bare word is not looked for inside others."""
    raw, reference = trained
    size = reference.get_piece_size()
    added = {text: size + at for at, text in enumerate(["[MASK]", "[gMASK]", "sop", "<|user|>"])}
    tokens = TokenIds(added=added, begin=("[gMASK]", "sop"))
    files = TokenizerFiles().with_tokens(tokens)
    resolved = resolve_tokenizer({"tokenizer.model": raw}.get, files)
    assert resolved is not None
    assert not resolved.moved
    fast = tokenizers.Tokenizer.from_str(resolved.raw.decode())
    for text in [*strings(), "philosophy"]:
        assert fast.encode(text).ids == [size + 1, size + 2, *reference.encode(text)], text
    ids = fast.encode("[gMASK]sop<|user|>\n cat", add_special_tokens=False).ids
    assert ids == [size + 1, size + 2, size + 3, *reference.encode("\n cat")]
    assert TokenizerFiles().with_tokens(TokenIds()) == TokenizerFiles()


def test_without_legacy_only_the_first_stretch_gets_a_space(trained):
    raw, _ = trained
    document = json.loads(convert(raw, {"legacy": False}, {}, "m"))
    fast = tokenizers.Tokenizer.from_str(json.dumps(document))
    tokens = fast.encode("cat</s>cat", add_special_tokens=False).tokens
    after = tokens[tokens.index("</s>") + 1 :]
    assert not after[0].startswith("▁")


def test_transformers_reads_it_the_same(trained, tmp_path):
    transformers = pytest.importorskip("transformers")
    raw, reference = trained
    (tmp_path / "tokenizer.json").write_bytes(convert(raw, {}, {}, "m"))
    fast = transformers.PreTrainedTokenizerFast(tokenizer_file=str(tmp_path / "tokenizer.json"))
    for text in STRINGS:
        assert fast(text, add_special_tokens=False)["input_ids"] == reference.encode(text)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damage_never_ends_in_a_traceback(trained, data):
    raw = bytearray(trained[0])
    for _ in range(data.draw(st.integers(1, 5))):
        at = data.draw(st.one_of(st.integers(0, 60), st.integers(len(raw) - 200, len(raw) - 1)))
        raw[at] = data.draw(st.integers(0, 255))
    try:
        convert(bytes(raw[: data.draw(st.integers(0, len(raw)))]), {}, {}, "ck/tokenizer.model")
    except ZooError as error:
        assert str(error).startswith("ck/tokenizer.model: ")  # noqa: PT017


def test_what_is_no_model():
    for raw in (b"", b"{}", b"\x00" * 50):
        with pytest.raises(ZooError, match="not a sentencepiece model"):
            convert(raw, {}, {}, "m")
