"""Encoders in GGUF files: BERT's numbers and its tokenizer, and how hidden states are pooled.

Numbers and tokens: llama.cpp's converter (``BertModel``).
llama.cpp computes the encoder and pools; RoBERTa's positions, classifiers and other activations are not written.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from zoo import Architecture, Parameter, Recipe, ZooError
from zoo_gguf.tokenizer import KEY

NAME = "bert"
_TABLES = ("position_embeddings", "token_type_embeddings")
"""Tables that are read as float32."""
_POOLING = {"pooling_mode_mean_tokens": 1, "pooling_mode_cls_token": 2, "pooling_mode_lasttoken": 3}
"""``llama_pooling_type``."""
_NORMAL, _CONTROL = 1, 3
_SPECIAL = {"[CLS]": "bos", "[SEP]": "seperator", "[PAD]": "padding", "[UNK]": "unknown", "[MASK]": "mask"}
"""Tokens and what their keys begin with; the misspelt one is llama.cpp's."""


def is_encoder(numbers: Architecture) -> bool:
    """Tell whether a model is an encoder; the decoders' numbers say nothing of it."""
    return numbers.type == "encoder"


def require(numbers: Architecture) -> str:
    """Name llama.cpp's architecture of an encoder.

    Raises:
        ZooError: it computes something that is not written, with what.
    """
    options = numbers.options
    lacks = [] if options.get("prefix") == NAME else ["positions that begin behind padding, as RoBERTa's do"]
    if options.get("labels"):
        lacks.append("the head of a classifier")
    if numbers.hidden_act not in ("gelu", "gelu_new", "gelu_pytorch_tanh"):
        lacks.append(f"hidden_act {numbers.hidden_act!r}")
    if lacks:
        raise ZooError(f"an encoder with {' and '.join(lacks)}; llama.cpp's bert is written without")
    return NAME


def is_table(parameter: Parameter) -> bool:
    """Tell whether a matrix is read as float32, whatever the others are stored as."""
    return parameter.layer is None and parameter.name.split(".")[-2] in _TABLES


def numbers_of(numbers: Architecture, companions: Mapping[str, bytes]) -> dict[str, Any]:
    """Make the keys behind the architecture's name."""
    pooling = json.loads(companions.get("1_Pooling/config.json", b'{"pooling_mode_mean_tokens": true}'))
    kinds = [key for key, value in pooling.items() if key.startswith("pooling_mode") and value]
    if len(kinds) != 1 or kinds[0] not in _POOLING:
        raise ZooError(f"target 'gguf': llama.cpp does not pool as 1_Pooling/config.json says: {', '.join(kinds)[:80]}")
    return {
        "block_count": numbers.num_hidden_layers,
        "context_length": numbers.context_length,
        "embedding_length": numbers.hidden_size,
        "feed_forward_length": numbers.intermediate_size,
        "attention.head_count": numbers.num_attention_heads,
        "attention.layer_norm_epsilon": float(numbers.rms_norm_eps),
        "attention.causal": False,
        "pooling_type": _POOLING[kinds[0]],
    }


def pooling_files(metadata: Mapping[str, Any], where: str) -> dict[str, bytes]:
    """Make the files of sentence-transformers that a stated pooling amounts to; vectors have length 1, as llama.cpp's.

    Raises:
        ZooError: a kind of pooling that is not read.
    """
    kind = metadata.get(f"{metadata.get('general.architecture')}.pooling_type", 0)
    if kind == 0:
        return {}
    names = {number: name for name, number in _POOLING.items()}
    if isinstance(kind, bool) or kind not in names:
        raise ZooError(f"{where}: its pooling_type is {kind!r:.40}, which is not read; known: {sorted(names)}")
    kinds = (("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize"))
    modules = [
        {"idx": index, "name": str(index), "path": path, "type": f"sentence_transformers.models.{module}"}
        for index, (path, module) in enumerate(kinds)
    ]
    pooling = {names[kind]: True}
    return {"modules.json": json.dumps(modules).encode(), "1_Pooling/config.json": json.dumps(pooling).encode()}


def tokenizer_keys(companions: Mapping[str, bytes], recipe: Recipe) -> dict[str, Any]:
    """Make the keys of a WordPiece tokenizer: words begin with ``▁``, their later pieces with nothing.

    Raises:
        ZooError: it is of another kind.
    """
    raw, numbers = companions.get("tokenizer.json"), recipe.architecture
    if raw is None:
        return {f"{KEY}model": "none"}
    told = json.loads(raw)
    if told["model"].get("type") != "WordPiece":
        raise ZooError(
            f"target 'gguf': an encoder's tokenizer must be WordPiece, not {told['model'].get('type')!r:.40}"
        )
    lower = (told.get("normalizer") or {}).get("lowercase", False)
    if not lower:
        raise ZooError("target 'gguf': llama.cpp lowers the texts of an encoder; this tokenizer keeps their case")
    ids: dict[str, int] = {**told["model"]["vocab"]}
    special = {one["content"] for one in told.get("added_tokens") or () if one.get("special")}
    words = {index: word for word, index in ids.items()}
    tokens, kinds = [], []
    for index in range(numbers.vocab_size):
        word = words.get(index, f"[PAD{index}]")
        kinds.append(_CONTROL if word in special or index not in words else _NORMAL)
        plain = word in special or index not in words
        tokens.append(word if plain else word[2:] if word.startswith("##") else f"▁{word}")
    named = {f"{KEY}{key}_token_id": ids[word] for word, key in _SPECIAL.items() if word in ids}
    return {
        f"{KEY}model": "bert", f"{KEY}pre": "default", f"{KEY}tokens": tokens, f"{KEY}token_type": kinds,
        f"{KEY}token_type_count": int(numbers.options.get("type_vocab_size", 2)), **named,
        f"{KEY}eos_token_id": ids.get("[SEP]", 0), f"{KEY}cls_token_id": ids.get("[CLS]", 0),
    }  # fmt: skip
