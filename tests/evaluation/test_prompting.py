"""Ids of texts and of conversations: those of transformers, whatever stands in the text."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.engine.made import byte_fallback, byte_level
from tests.evaluation.made import TEMPLATE, build, make_checkpoint_folder
from tests.evaluation.strings import strings
from zoo.engine.text import Tokenizer
from zoo.errors import ZooError
from zoo.evaluation.prompting import Prompting
from zoo.package.folder import open_package

COUNT = 3000
SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
PIECES = ("▁", "the", "dog", "a", "in", "e", "o", "t", "h", "s", "n", "ing", "there", "▁a")


def metaspace() -> Any:
    """Spaces made visible by a pre-tokenizer, as newer conversions of sentencepiece models do."""
    from tokenizers import normalizers, pre_tokenizers

    made = byte_fallback()
    made.normalizer = normalizers.Sequence([])
    made.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="first", split=False)
    return made


def split_first() -> Any:
    """Text composed and split by a pattern, then bytes; nothing around it."""
    from tokenizers import Regex, normalizers, pre_tokenizers, processors

    made = byte_level()
    made.normalizer = normalizers.NFC()
    split = pre_tokenizers.Split(Regex(SPLIT), "isolated")
    made.pre_tokenizer = pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(False, use_regex=False)])
    made.post_processor = processors.ByteLevel(trim_offsets=False)
    return made


def unigram() -> Any:
    """A unigram model with a token a byte."""
    from tokenizers import Tokenizer as Library
    from tokenizers import decoders, models, normalizers

    pieces = [("<unk>", 0.0), ("<s>", 0.0), ("</s>", 0.0), *((f"<0x{one:02X}>", -20.0) for one in range(256))]
    pieces += [(piece, -float(2 + index % 7)) for index, piece in enumerate(PIECES)]
    made = Library(models.Unigram(pieces, unk_id=0, byte_fallback=True))
    made.normalizer = normalizers.Replace(" ", "▁")
    made.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    made.add_special_tokens(["<unk>", "<s>", "</s>"])
    return made


SENTENCE = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
LEVEL = {"bos_token": "<|begin|>", "eos_token": "<|end|>"}
KINDS: dict[str, tuple[Callable[[], Any], dict[str, Any]]] = {
    "byte fallback": (byte_fallback, SENTENCE),
    "byte fallback, bos and eos": (byte_fallback, {**SENTENCE, "add_bos_token": True, "add_eos_token": False}),
    "metaspace": (metaspace, {**SENTENCE, "tokenizer_class": "LlamaTokenizer", "legacy": False}),
    "byte level": (byte_level, LEVEL),
    "byte level, another class": (byte_level, {**LEVEL, "tokenizer_class": "GPT2Tokenizer"}),
    "split first": (split_first, {"eos_token": "<|end|>", "tokenizer_class": "Qwen2Tokenizer"}),
    "unigram": (unigram, SENTENCE),
}


@pytest.mark.parametrize("kind", list(KINDS))
def test_ids_are_those_of_transformers(kind: str, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    make, config = KINDS[kind]
    make().save(str(tmp_path / "tokenizer.json"))
    config = {"tokenizer_class": "PreTrainedTokenizerFast", **config}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    theirs, ours = AutoTokenizer.from_pretrained(tmp_path), Tokenizer(tmp_path)
    for text in strings(COUNT):
        ids = theirs.encode(text)
        assert ours.encode(text) == ids, text
        assert ours.encode(text, special=False) == theirs.encode(text, add_special_tokens=False), text
        assert ours.decode(ids) == theirs.decode(ids, skip_special_tokens=True), text
        assert ours.decode(ids, skip_special=False) == theirs.decode(ids), text


@pytest.mark.parametrize("kind", ["byte_fallback", "byte_level"])
def test_prompts_are_those_of_the_harness_own_model(kind: str, tmp_path: Path) -> None:
    from lm_eval.models.utils import has_bos_prefix
    from transformers import AutoTokenizer

    checkpoint = make_checkpoint_folder(tmp_path / "small", kind, chat_template="{{ bos_token }}" + TEMPLATE)
    prompting = Prompting(open_package(build(checkpoint, tmp_path / "package")))
    theirs = AutoTokenizer.from_pretrained(checkpoint)
    begin = theirs.decode(theirs.bos_token_id)
    assert prompting.prefix_id == theirs.bos_token_id
    assert prompting.eos_id == theirs.eos_token_id
    for text in strings(600, seed=1):
        for whole in (text, begin + text):
            assert prompting.encode(whole) == theirs.encode(whole, add_special_tokens=not has_bos_prefix(whole, begin))
        talk = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": text}]
        prompt = theirs.apply_chat_template(talk, tokenize=False, add_generation_prompt=True)
        assert prompting.chat(talk) == prompt
        assert has_bos_prefix(prompt, begin)
        assert prompting.encode(prompt) == theirs.encode(prompt, add_special_tokens=False)


def test_an_answer_that_is_begun_goes_on(chat: Path) -> None:
    prompting = Prompting(open_package(chat))
    talk = [{"role": "user", "content": "Which?"}, {"role": "assistant", "content": "The answer is"}]
    assert prompting.chat(talk, ask=False) == "<user>Which?\n<assistant>The answer is"


def test_a_base_model_has_no_template(fp32: Path) -> None:
    with pytest.raises(ZooError, match="--scoring likelihood"):
        Prompting(open_package(fp32)).chat([{"role": "user", "content": "x"}])
