"""Tiny encoders with random weights, as transformers and sentence-transformers write them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

WORDS = [
    "the",
    "cat",
    "sat",
    "on",
    "a",
    "mat",
    "and",
    "saw",
    "dog",
    "run",
    "far",
    "away",
    "in",
    "red",
    "green",
    "blue",
    "house",
    "with",
    "many",
    "birds",
    "over",
    "old",
    "trees",
]
SMALL = {
    "vocab_size": 64,
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "initializer_range": 0.2,
}
TEXTS = (
    "the cat sat on a mat",
    "dog",
    "many birds saw the old house with red trees and a dog ran far away over the green mat",
    "blue house",
)


def make_encoder(
    folder: Path, kind: str = "bert", *, labels: int = 0, cls: str | None = None, seed: int = 0, **numbers: Any
) -> Any:
    """Save a random model of ``kind`` (bert, roberta, xlm-roberta) with a tokenizer of words; return the model.

    Args:
        labels: of a classifier; 0 saves the bare encoder.
        cls: the class to save instead, by its name in transformers.
    """
    import torch
    import transformers

    name = {"bert": "Bert", "roberta": "Roberta", "xlm-roberta": "XLMRoberta"}[kind]
    torch.manual_seed(seed)
    places = (
        {"max_position_embeddings": 40} if kind == "bert" else {"max_position_embeddings": 42, "type_vocab_size": 1}
    )
    config = getattr(transformers, f"{name}Config")(
        **{**SMALL, **places, "pad_token_id": 0 if kind == "bert" else 1, "num_labels": labels or 2, **numbers}
    )
    made = cls or f"{name}{'ForSequenceClassification' if labels else 'Model'}"
    model = getattr(transformers, made)(config).eval()
    with torch.no_grad():
        for one in model.parameters():
            if one.dim() == 1:  # transformers begins with zeros and ones, which would hide a mistake
                one.add_(torch.randn_like(one) * 0.1)
    model.save_pretrained(folder)
    write_words(folder, kind)
    return model


def write_words(folder: Path, kind: str = "bert") -> None:
    """Write a tokenizer of whole words with BERT's special tokens around texts and pairs."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    # The id of padding is 1 in RoBERTa, which counts positions by what is not padding.
    specials = ["[PAD]", "[CLS]", "[SEP]", "[UNK]"] if kind == "bert" else ["[CLS]", "[PAD]", "[SEP]", "[UNK]"]
    vocabulary = {word: index for index, word in enumerate([*specials, *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    second = 1 if kind == "bert" else 0
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair=f"[CLS] $A [SEP] $B:{second} [SEP]:{second}",
        special_tokens=[("[CLS]", specials.index("[CLS]")), ("[SEP]", 2)],
    )
    tokenizer.add_special_tokens(specials)
    tokenizer.save(str(folder / "tokenizer.json"))
    names = {"pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]", "unk_token": "[UNK]"}
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", **names, "model_max_length": 40}
    settings["model_input_names"] = ["input_ids", "token_type_ids", "attention_mask"]
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))


def describe(
    folder: Path,
    *,
    pooling: str | Sequence[str] = "mean_tokens",
    normalize: bool = True,
    longest: int | None = None,
    prompts: Mapping[str, str] | None = None,
    default: str | None = None,
) -> None:
    """Write the files of sentence-transformers beside a model."""
    kinds = [("", "Transformer"), ("1_Pooling", "Pooling"), *([("2_Normalize", "Normalize")] if normalize else [])]
    modules = [
        {"idx": index, "name": str(index), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for index, (path, kind) in enumerate(kinds)
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "1_Pooling").mkdir(exist_ok=True)
    modes = [pooling] if isinstance(pooling, str) else pooling
    flags = {f"pooling_mode_{mode}": True for mode in modes}
    (folder / "1_Pooling/config.json").write_text(json.dumps({"word_embedding_dimension": 48, **flags}))
    if longest is not None:
        (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": longest}))
    if prompts is not None:
        stated = {"prompts": prompts, "default_prompt_name": default}
        (folder / "config_sentence_transformers.json").write_text(json.dumps(stated))


def hidden_states(model: Any, folder: Path, texts: Sequence[str], **options: Any) -> list[Any]:
    """Compute each text by itself with transformers, float32 (tokens, hidden)."""
    import torch
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    with torch.inference_mode():
        return [model(**tokenizer(text, return_tensors="pt", **options)).last_hidden_state[0].numpy() for text in texts]


def cosines(one: Any, other: Any) -> Any:
    """The cosine of each pair of rows."""
    import numpy as np

    lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    return (one * other).sum(1) / lengths
