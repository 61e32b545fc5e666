"""``genai_config.json``: what onnxruntime-genai needs to open the same folder.

Source of the keys: onnxruntime-genai, src/config.h; ``decoder`` is its name for a model that is nothing special.
"""

from __future__ import annotations

import json
from typing import Any

from zoo.declarations.recipe import Recipe, TokenIds
from zoo.operations import Attention, Embedding, Logits, Program


def genai_config(recipe: Recipe, program: Program) -> bytes:
    """Write the configuration of a language model; heads are as wide as in the graph, padding included."""
    layers = list(program.all(Attention))
    attention, embedding = layers[0], next(program.all(Embedding))
    vocab_size = program.width(next(program.all(Logits)).x)
    context, tokens = program.context, recipe.tokens
    model: dict[str, Any] = {
        "context_length": context,
        "decoder": {
            "session_options": {"log_id": "onnxruntime-genai", "provider_options": []},
            "filename": "model.onnx",
            "head_size": attention.head_dim,
            "hidden_size": embedding.weight.shape[-1],
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
            "num_attention_heads": attention.num_heads,
            "num_hidden_layers": len(layers),
            "num_key_value_heads": attention.num_kv_heads,
        },
        "type": "decoder",
        "vocab_size": vocab_size,
    }
    model |= _special(tokens, vocab_size)
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
