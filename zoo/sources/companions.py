"""The files beside the weights that a build reads or copies; they belong to the fingerprint and to a download."""

from __future__ import annotations

CONFIG = "config.json"
TOKENIZER = (
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
)
GENERATION = "generation_config.json"
LICENCES = ("LICENSE*", "LICENCE*", "USE_POLICY*", "NOTICE*")
"""Patterns of the texts that must travel with the weights."""
MAX_CONFIG = 16 * 2**20
MAX_COMPANION = 256 * 2**20
