"""``genai_config.json``: what onnxruntime-genai needs to open the same folder.

Source of the keys: onnxruntime-genai, src/config.h; ``decoder`` is its name for a model that is nothing special.
"""

from __future__ import annotations

import json
from typing import Any

from zoo.declarations.recipe import Recipe


def genai_config(recipe: Recipe, head_size: int, context: int) -> bytes:
    """Write the configuration.

    Args:
        head_size: width of a head in the graph, padding included.
        context: positions that the graph serves.
    """
    arch, tokens = recipe.architecture, recipe.tokens
    eos = list(tokens.eos_token_id)
    model: dict[str, Any] = {
        "bos_token_id": tokens.bos_token_id,
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
        "eos_token_id": eos[0] if len(eos) == 1 else eos,
        "pad_token_id": tokens.pad_token_id if tokens.pad_token_id is not None else (eos[0] if eos else 0),
        "type": "decoder",
        "vocab_size": arch.vocab_size,
    }
    if tokens.bos_token_id is None:
        del model["bos_token_id"]
    if not eos:
        # onnxruntime-genai wants one; no token of the vocabulary ends a text here.
        model["eos_token_id"] = arch.vocab_size
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
