"""Model types that no bundled family claims, as one would; values as in transformers' configurations."""

from __future__ import annotations

from typing import Any

CLAIMS: dict[str, dict[str, Any]] = {
    "cohere": {
        "norm": "layer", "use_parallel_residual": True, "rotary_interleaved": True, "logit_scale": 0.0625,
        "tie_word_embeddings": True, "config_names": {"rms_norm_eps": "layer_norm_eps"},
    },
    "nemotron": {
        "norm": "layer", "norm_bias": True, "norm_offset": 1.0, "partial_rotary_factor": 0.5, "gated_mlp": False,
        "hidden_act": "relu2", "config_names": {"rms_norm_eps": "norm_eps"},
    },
}  # fmt: skip
