"""Tiny checkpoints with random weights, as transformers writes them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

SMALL = {
    "vocab_size": 331,
    "hidden_size": 64,
    "intermediate_size": 112,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
}


def make_checkpoint(folder: Path, *, dtype: str = "float32", seed: int = 0, **numbers: Any) -> Any:
    """Save a random model with these numbers and return it; weights are large enough for clear greedy choices."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    config = LlamaConfig(**{**SMALL, "initializer_range": 0.2, **numbers})
    model = LlamaForCausalLM(config).eval()
    with torch.no_grad():
        for name, values in model.named_parameters():
            if values.ndim == 1:
                torch.nn.init.normal_(values, 0.0 if name.endswith("bias") else 1.0, 0.1)
    model.to(getattr(torch, dtype)).save_pretrained(folder)
    # Opened again: casting a model there and back rounds its rotary frequencies too.
    return LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def make_of_type(folder: Path, model_type: str, *, dtype: str = "float32", seed: int = 0, **numbers: Any) -> Any:
    """Save a random model of a type and open it again in float32."""
    import torch
    import transformers

    torch.manual_seed(seed)
    kind = transformers.CONFIG_MAPPING[model_type]
    config = kind(**{**SMALL, "initializer_range": 0.2, "eos_token_id": None, "pad_token_id": None, **numbers})
    model = transformers.AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for name, values in model.named_parameters():
            if values.ndim == 1:
                around = 0.0 if name.endswith("bias") or model_type == "gemma" else 1.0
                torch.nn.init.normal_(values, around, 0.2)
            elif "embed_tokens" in name and model_type == "gemma":
                values /= 2
    model.to(getattr(torch, dtype)).save_pretrained(folder)
    return transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def edit_config(folder: Path, **changes: Any) -> None:
    """Change keys of a checkpoint's ``config.json``; None removes one."""
    path = folder / "config.json"
    config = json.loads(path.read_text())
    for key, value in changes.items():
        if value is None:
            config.pop(key, None)
        else:
            config[key] = value
    path.write_text(json.dumps(config))
