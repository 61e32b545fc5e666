"""Write a made-up Llama tokenizer of any size: tokenizer.model (sentencepiece BPE) and the same as tokenizer.json.

The pieces are generated, not trained: special tokens, 256 bytes, printable characters, then letter pairs and triples
with and without a leading space.  Each is the sum of two earlier ones, so that merging can reach it.  This serves
speed measurements, where only the vocabulary's size and the file formats matter.
"""

import itertools
import json
import string
from collections.abc import Iterator
from pathlib import Path
from typing import Any

SPACE = "\u2581"  # sentencepiece's mark for a space
SPECIAL = ("<unk>", "<s>", "</s>")


def characters() -> list[str]:
    """Return the single-character pieces."""
    return [SPACE, *string.ascii_lowercase, *string.ascii_uppercase, *string.digits, *string.punctuation]


def merged() -> Iterator[str]:
    """Yield longer and longer pieces, each a sum of two pieces that came before it."""
    letters = string.ascii_lowercase
    yield from (SPACE + a for a in letters + string.ascii_uppercase)
    for length in itertools.count(2):
        for word in itertools.product(letters, repeat=length):
            yield "".join(word)
        for word in itertools.product(letters, repeat=length):
            yield SPACE + "".join(word)


def pieces(vocab: int) -> list[str]:
    """Return `vocab` distinct pieces: specials, bytes, characters, merges."""
    fixed = [*SPECIAL, *(f"<0x{byte:02X}>" for byte in range(256)), *characters()]
    if vocab < len(fixed):
        raise ValueError(f"a tokenizer with byte fallback needs at least {len(fixed)} tokens, not {vocab}")
    return [*fixed, *itertools.islice(merged(), vocab - len(fixed))]


def sentencepiece_model(tokens: list[str]) -> bytes:
    """Return a serialized ModelProto (github.com/google/sentencepiece, src/sentencepiece_model.proto)."""
    from sentencepiece import sentencepiece_model_pb2 as pb

    kinds = pb.ModelProto.SentencePiece
    model = pb.ModelProto()
    first_merge = len(SPECIAL) + 256
    for number, text in enumerate(tokens):
        piece = model.pieces.add(piece=text, score=0.0)
        if number == 0:
            piece.type = kinds.UNKNOWN
        elif number < len(SPECIAL):
            piece.type = kinds.CONTROL
        elif number < first_merge:
            piece.type = kinds.BYTE
        else:
            piece.type = kinds.NORMAL
            piece.score = -float(number - first_merge)
    spec = model.trainer_spec
    spec.model_type, spec.vocab_size, spec.byte_fallback = pb.TrainerSpec.BPE, len(tokens), True
    spec.unk_id, spec.bos_id, spec.eos_id, spec.pad_id = 0, 1, 2, -1
    model.normalizer_spec.name = "identity"
    model.normalizer_spec.add_dummy_prefix = True
    model.normalizer_spec.remove_extra_whitespaces = False
    model.normalizer_spec.escape_whitespaces = True
    return bytes(model.SerializeToString())


def tokenizer_json(tokens: list[str]) -> dict[str, Any]:
    """Return the same tokenizer in the format of Hugging Face `tokenizers`."""
    rank = {text: number for number, text in enumerate(tokens)}
    first_merge = len(SPECIAL) + 256
    merges = []
    for text in tokens[first_merge:]:
        halves = [(text[:cut], text[cut:]) for cut in range(1, len(text))]
        merges += sorted((h for h in halves if h[0] in rank and h[1] in rank), key=lambda h: (rank[h[0]], rank[h[1]]))
    special = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    return {
        "version": "1.0", "truncation": None, "padding": None,
        "added_tokens": [{"id": number, "content": text, **special} for number, text in enumerate(SPECIAL)],
        "normalizer": {"type": "Sequence", "normalizers": [
            {"type": "Prepend", "prepend": SPACE},
            {"type": "Replace", "pattern": {"String": " "}, "content": SPACE}]},
        "pre_tokenizer": None,
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}}},
        "decoder": {"type": "Sequence", "decoders": [
            {"type": "Replace", "pattern": {"String": SPACE}, "content": " "}, {"type": "ByteFallback"},
            {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 0}]},
        "model": {"type": "BPE", "dropout": None, "unk_token": "<unk>", "continuing_subword_prefix": None,
                  "end_of_word_suffix": None, "fuse_unk": True, "byte_fallback": True, "vocab": rank,
                  "merges": [list(pair) for pair in merges]},
    }  # fmt: skip


def write_tokenizer(folder: Path, vocab: int, context: int) -> None:
    """Write tokenizer.model, tokenizer.json and tokenizer_config.json of exactly `vocab` tokens."""
    tokens = pieces(vocab)
    (folder / "tokenizer.model").write_bytes(sentencepiece_model(tokens))
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer_json(tokens), ensure_ascii=False))
    config = {"tokenizer_class": "LlamaTokenizer", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>",
              "add_bos_token": True, "add_eos_token": False, "legacy": False, "model_max_length": context}  # fmt: skip
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=1))
