"""Model types whose blocks differ, as a family would claim them; values as in transformers' configurations."""

from __future__ import annotations

from typing import Any

CLAIMS: dict[str, dict[str, Any]] = {
    "gemma2": {
        "norm_offset": 1.0, "scale_embedding": True, "hidden_act": "gelu_pytorch_tanh", "norm_placement": "around",
        "attn_logit_softcapping": None, "final_logit_softcapping": None, "query_pre_attn_scalar": 256.0,
        "sliding_window": 4096, "tie_word_embeddings": True, "head_dim": 256,
    },
    "gemma3_text": {
        "norm_offset": 1.0, "scale_embedding": True, "hidden_act": "gelu_pytorch_tanh", "norm_placement": "around",
        "qk_norm": True, "query_pre_attn_scalar": 256.0, "sliding_window": 4096, "tie_word_embeddings": True,
        "head_dim": 256, "rope_local_base_freq": 10000.0, "attn_logit_softcapping": None,
        "final_logit_softcapping": None,
    },
    "stablelm": {
        "norm": "layer", "norm_bias": True, "partial_rotary_factor": 0.25, "use_parallel_residual": False,
        "qk_norm_over": "each head",
        "config_names": {"rms_norm_eps": "layer_norm_eps", "qkv_bias": "use_qkv_bias", "qk_norm": "qk_layernorm"},
    },
    "granite": {
        "attention_multiplier": 1.0, "embedding_multiplier": 1.0, "residual_multiplier": 1.0, "logits_scaling": 1.0,
    },
    "olmo2": {"norm_placement": "after", "qk_norm": True, "qk_norm_over": "all heads"},
    "cohere": {
        "norm": "layer", "use_parallel_residual": True, "rotary_interleaved": True, "logit_scale": 0.0625,
        "tie_word_embeddings": True, "config_names": {"rms_norm_eps": "layer_norm_eps"},
    },
    "smollm3": {"no_rope_layers": None, "tie_word_embeddings": True},
    "exaone4": {
        "norm_placement": "after", "qk_norm": True, "rope_layers": "sliding", "sliding_window": None,
    },
    "nemotron": {
        "norm": "layer", "norm_bias": True, "norm_offset": 1.0, "partial_rotary_factor": 0.5, "gated_mlp": False,
        "hidden_act": "relu2", "config_names": {"rms_norm_eps": "norm_eps"},
    },
}  # fmt: skip
