"""Tiny models as their makers publish them, where transformers names or joins tensors in another way."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

COMPUTED_AS = {"internlm2": "llama", "baichuan": "llama", "chatglm": "glm"}
"""Types whose code transformers does not have → those that compute the same."""
_INTERNLM2 = {
    "model.embed_tokens": "model.tok_embeddings", "lm_head": "output", "input_layernorm": "attention_norm",
    "post_attention_layernorm": "ffn_norm", "self_attn.qkv": "attention.wqkv", "self_attn.o_proj": "attention.wo",
    "mlp.gate_proj": "feed_forward.w1", "mlp.up_proj": "feed_forward.w3", "mlp.down_proj": "feed_forward.w2",
}  # fmt: skip
_CHATGLM = {
    "model.embed_tokens": "transformer.embedding.word_embeddings", "lm_head": "transformer.output_layer",
    "model.norm": "transformer.encoder.final_layernorm", "model.layers": "transformer.encoder.layers",
    "self_attn.qkv": "self_attention.query_key_value", "self_attn.o_proj": "self_attention.dense",
    "mlp.gate_up_proj": "mlp.dense_h_to_4h", "mlp.down_proj": "mlp.dense_4h_to_h",
}  # fmt: skip
_MIXTRAL = {".mlp.": ".block_sparse_moe.", "gate_proj": "w1", "up_proj": "w3", "down_proj": "w2"}
_NAMES = {
    "internlm2": _INTERNLM2,
    "chatglm": _CHATGLM,
    "baichuan": {"self_attn.qkv": "self_attn.W_pack"},
    "mixtral": _MIXTRAL,
}
_CHATGLM_KEYS = {
    "num_hidden_layers": "num_layers", "intermediate_size": "ffn_hidden_size", "vocab_size": "padded_vocab_size",
    "num_key_value_heads": "multi_query_group_num", "head_dim": "kv_channels", "rms_norm_eps": "layernorm_epsilon",
    "max_position_embeddings": "seq_length",
}  # fmt: skip
_KEYS = (*_CHATGLM_KEYS, "hidden_size", "num_attention_heads", "tie_word_embeddings")


def state(model: Any, model_type: str) -> dict[str, Any]:
    """Name a model's tensors as checkpoints of the type do: one an expert, and q, k and v in one for some."""
    import torch

    result: dict[str, Any] = {}
    weights, config = dict(model.state_dict()), model.config
    for name in list(weights) if model_type in COMPUTED_AS else ():
        stem, found, kind = name.partition(".q_proj.")
        if found:
            parts = [weights.pop(f"{stem}.{letter}_proj.{kind}") for letter in "qkv"]
            if model_type == "internlm2":
                parts = [part.unflatten(0, (config.num_key_value_heads, -1)) for part in parts]
                parts = [torch.cat(parts, 1).flatten(0, 1)]
            weights[f"{stem}.qkv.{kind}"] = torch.cat(parts)
    for name, weight in weights.items():
        stem, _, way = name.rpartition(".experts.")
        if way.startswith("gate_up_proj"):
            for part, half in zip(("gate", "up"), weight.chunk(2, dim=1), strict=True):
                result |= {f"{stem}.experts.{at}.{part}_proj.weight": one for at, one in enumerate(half)}
        elif stem and way.startswith("down_proj"):
            result |= {f"{stem}.experts.{at}.down_proj.weight": one for at, one in enumerate(weight)}
        else:
            result[name] = weight
    if config.tie_word_embeddings:
        result.pop("lm_head.weight", None)
    return {_renamed(name, _NAMES.get(model_type, {})): weight.contiguous() for name, weight in result.items()}


def _renamed(name: str, names: dict[str, str]) -> str:
    for ours, theirs in names.items():
        name = name.replace(ours, theirs)
    return name


def save(folder: Path, model: Any, model_type: str) -> None:
    """Write a checkpoint of a type that transformers does not have over one of a type that computes the same."""
    from safetensors.torch import save_file

    save_file(state(model, model_type), folder / "model.safetensors")
    config, chatglm = model.config.to_dict(), model_type == "chatglm"
    config["head_dim"] = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
    keys = {name: _CHATGLM_KEYS.get(name, name) if chatglm else name for name in _KEYS}
    stated = {key: config[name] for name, key in keys.items()} | ({"add_qkv_bias": True} if chatglm else {})
    if model_type == "baichuan" and config["num_hidden_layers"] == 40:  # the 13B, whose scores fall with the distance
        stated["model_max_length"] = stated.pop("max_position_embeddings")
    (folder / "config.json").write_text(json.dumps({"model_type": model_type, **stated}))
