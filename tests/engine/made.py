"""Tokenizers of the two kinds that decoders come with, trained on a few lines, and packages to run them in."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import zoo
from tests.checkpoints import make_checkpoint

LINES = (
    "Once upon a time there was a little dog that lived in a house.",
    "The dog had many friends, and they went to the park together.",
    "Ein Haus steht im Wald; über dem Dach fliegt ein Vogel.",
    "She said: hello, hello, how are you today? I am fine.",
)
VOCAB = 400


def byte_fallback() -> Any:
    """Pieces with ▁ for spaces and a token a byte for everything else, as sentencepiece models are converted."""
    from tokenizers import Tokenizer, decoders, models, normalizers, processors, trainers

    trained = Tokenizer(models.BPE(unk_token="<unk>"))
    trained.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    trainer = trainers.BpeTrainer(vocab_size=100, special_tokens=["<unk>", "<s>", "</s>"], show_progress=False)
    trained.train_from_iterator(LINES, trainer)
    model = json.loads(trained.to_str())["model"]
    vocab = {"<unk>": 0, "<s>": 1, "</s>": 2} | {f"<0x{one:02X}>": 3 + one for one in range(256)}
    for token in sorted(model["vocab"], key=model["vocab"].get):
        vocab.setdefault(token, len(vocab))
    merges = [tuple(one) for one in model["merges"]]
    made = Tokenizer(models.BPE(vocab=vocab, merges=merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    made.normalizer = trained.normalizer
    made.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    made.add_special_tokens(["<unk>", "<s>", "</s>"])
    made.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", 1)]
    )
    return made


def byte_level() -> Any:
    """Pieces of bytes, as GPT-2's and its descendants'."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB - 20,
        special_tokens=["<|begin|>", "<|end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator(LINES, trainer)
    made.post_processor = processors.TemplateProcessing(single="<|begin|> $A", special_tokens=[("<|begin|>", 0)])
    return made


KINDS = {"byte_fallback": byte_fallback, "byte_level": byte_level}
ENDS = {"byte_fallback": ("<s>", "</s>"), "byte_level": ("<|begin|>", "<|end|>")}


def save_tokenizer(folder: Path, kind: str, **config: Any) -> Path:
    """Write a tokenizer into a checkpoint folder."""
    folder.mkdir(parents=True, exist_ok=True)
    KINDS[kind]().save(str(folder / "tokenizer.json"))
    begin, end = ENDS[kind]
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": begin, "eos_token": end, **config}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder


def make_package(folder: Path, kind: str = "byte_fallback", precision: str = "fp32", **numbers: Any) -> tuple[Any, Any]:
    """Build a tiny random checkpoint with a tokenizer; return the opened engine and transformers' model."""
    config = {key: numbers.pop(key) for key in list(numbers) if key in ("chat_template",)}
    checkpoint = folder / "checkpoint"
    model = make_checkpoint(checkpoint, vocab_size=VOCAB, bos_token_id=1, eos_token_id=2, **numbers)
    save_tokenizer(checkpoint, kind, **config)
    package = zoo.build(str(checkpoint), precision, output=folder / "package")
    return zoo.open(package.path), model
