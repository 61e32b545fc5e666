"""``genai_config.json``: what onnxruntime-genai needs to open the same folder.

Source of the keys: onnxruntime-genai, src/config.h; ``decoder`` is its name for a model that is nothing special.
"""

from __future__ import annotations

import json
from typing import Any

from zoo.declarations.recipe import Recipe, TokenIds


def genai_config(recipe: Recipe, head_size: int, context: int) -> bytes:
    """Write the configuration.

    Args:
        head_size: width of a head in the graph, padding included.
        context: positions that the graph serves.
    """
    arch, tokens = recipe.architecture, recipe.tokens
    model: dict[str, Any] = {
        "context_length": context,
        "decoder": {
            "session_options": {"log_id": "onnxruntime-genai", "provider_options": []},
            "filename": "model.onnx",
            "head_size": head_size,
            "hidden_size": arch.hidden_size,
            "inputs": {
                "input_ids": "input_ids",
                "attention_mask": "attention_mask",
                "past_key_names": "past_key_values.%d.key",
                "past_value_names": "past_key_values.%d.value",
            },
            "outputs": {
                "logits": "logits",
                "present_key_names": "present.%d.key",
                "present_value_names": "present.%d.value",
            },
            "num_attention_heads": arch.num_attention_heads,
            "num_hidden_layers": arch.num_hidden_layers,
            "num_key_value_heads": arch.num_key_value_heads,
        },
        "type": "decoder",
        "vocab_size": arch.vocab_size,
    }
    model |= _special(tokens, arch.vocab_size)
    search = {
        "do_sample": False,
        "early_stopping": True,
        "max_length": context,
        "min_length": 0,
        "num_beams": 1,
        "num_return_sequences": 1,
        "past_present_share_buffer": True,
        "repetition_penalty": 1.0,
        "temperature": 1.0,
        "top_k": 1,
        "top_p": 1.0,
    }
    return (json.dumps({"model": model, "search": search}, indent=2) + "\n").encode()


def _special(tokens: TokenIds, vocab_size: int) -> dict[str, Any]:
    """Name the special tokens; onnxruntime-genai opens no model with an id outside the vocabulary.

    Where no token ends a text, it is not told of one, and takes 0, which is "unknown" in most vocabularies.
    """

    def known(one: int | None) -> bool:
        return one is not None and 0 <= one < vocab_size

    eos = [one for one in tokens.eos_token_id if known(one)]
    named: dict[str, Any] = {}
    if known(tokens.bos_token_id):
        named["bos_token_id"] = tokens.bos_token_id
    if eos:
        named["eos_token_id"] = eos[0] if len(eos) == 1 else eos
    named["pad_token_id"] = tokens.pad_token_id if known(tokens.pad_token_id) else (eos or [0])[0]
    return named
