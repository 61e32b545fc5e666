"""The files beside the weights that a build reads or copies; they belong to the digest and to a download."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable

CONFIG = "config.json"
TOKENIZER = (
    "tokenizer.json",
    "tokenizer.model",
    "vocab.json",
    "merges.txt",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
    "additional_chat_templates/tool_use.jinja",
    "vocab.txt",
)
EMBEDDING = (
    "modules.json",
    "sentence_bert_config.json",
    "config_sentence_transformers.json",
    "1_Pooling/config.json",
)
"""What says how the hidden states of a text become its embedding."""
NESTED = tuple(name for name in (*TOKENIZER, *EMBEDDING) if "/" in name)
"""Those in folders of their own, which a listing of the checkpoint's folder does not name."""
GENERATION = "generation_config.json"
LICENCES = ("LICENSE*", "LICENCE*", "USE_POLICY*", "NOTICE*")
"""Patterns of the texts that must travel with the weights."""
MAX_CONFIG = 16 * 2**20
MAX_COMPANION = 256 * 2**20


def licences(names: Iterable[str]) -> list[str]:
    """Choose the licence texts among file names, sorted."""
    return sorted(name for name in names if any(fnmatch.fnmatchcase(name.upper(), pattern) for pattern in LICENCES))


def chosen(names: Iterable[str]) -> list[str]:
    """Choose the companions among the names of a folder's files, sorted."""
    there = set(names)
    return sorted({*licences(there), *there.intersection((CONFIG, GENERATION, *TOKENIZER, *EMBEDDING))})
