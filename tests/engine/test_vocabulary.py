"""What tokens are in bytes, in the two ways that vocabularies write them."""

from __future__ import annotations

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from zoo.engine.vocabulary import kind_of, token_bytes


def library(decoder: object) -> Tokenizer:
    made = Tokenizer(models.BPE())
    if decoder is not None:
        made.decoder = decoder
    return made


@pytest.mark.parametrize(
    ("decoder", "kind"),
    [
        (decoders.ByteLevel(), "byte-level"),
        (decoders.Sequence([decoders.ByteLevel(), decoders.Fuse()]), "byte-level"),
        (decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]), "spaces"),
        (decoders.Metaspace(), "spaces"),
        (decoders.WordPiece(), "other"),
        (None, "other"),
    ],
)
def test_the_decoder_says_how_bytes_are_written(decoder, kind) -> None:
    assert kind_of(library(decoder)) == kind


def test_byte_level_names_are_read_back() -> None:
    for text in ("plain", " a b", "é", "\n\t", "🐝", "\x00\xad\x7f"):
        (name, _), *rest = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False).pre_tokenize_str(text)
        assert not rest
        assert token_bytes(name, "byte-level") == text.encode()
    assert token_bytes("<｜begin｜>", "byte-level") == "<｜begin｜>".encode()


def test_other_names_are_read_back() -> None:
    assert token_bytes("▁the", "spaces") == b" the"
    assert token_bytes("<0xE2>", "spaces") == b"\xe2"
    assert token_bytes("##ing", "other") is None
