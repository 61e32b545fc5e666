"""GGUF files of transformers' models, written by gguf-py as llama.cpp's converter does."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

PERMUTED = ("llama", "granite", "smollm3", "internlm2", "baichuan")
"""Architectures whose q and k the converter permutes (``LlamaModel.permute``)."""
NUMBERS = {
    "max_position_embeddings": "context_length", "hidden_size": "embedding_length",
    "num_hidden_layers": "block_count", "intermediate_size": "feed_forward_length",
    "num_attention_heads": "attention.head_count", "num_key_value_heads": "attention.head_count_kv",
    "rms_norm_eps": "attention.layer_norm_rms_epsilon", "layer_norm_eps": "attention.layer_norm_epsilon",
    "sliding_window": "attention.sliding_window", "logit_scale": "logit_scale",
    "attention_multiplier": "attention.scale", "embedding_multiplier": "embedding_scale",
    "residual_multiplier": "residual_scale", "logits_scaling": "logit_scale",
    "attn_logit_softcapping": "attn_logit_softcapping", "final_logit_softcapping": "final_logit_softcapping",
    "use_parallel_residual": "use_parallel_residual",
    "original_max_position_embeddings": "rope.scaling.original_context_length",
    "num_local_experts": "expert_count", "num_experts": "expert_count", "num_experts_per_tok": "expert_used_count",
    "moe_intermediate_size": "expert_feed_forward_length", "layer_norm_epsilon": "attention.layer_norm_epsilon",
    "ffn_hidden_size": "feed_forward_length", "n_routed_experts": "expert_count",
    "n_shared_experts": "expert_shared_count", "first_k_dense_replace": "leading_dense_block_count",
    "routed_scaling_factor": "expert_weights_scale", "norm_topk_prob": "expert_weights_norm",
    "n_group": "expert_group_count", "topk_group": "expert_group_used_count",
    "q_lora_rank": "attention.q_lora_rank", "kv_lora_rank": "attention.kv_lora_rank",
}  # fmt: skip


def write(
    path: Path,
    model: Any,
    arch: str,
    tokenizer: Mapping[str, Any],
    *,
    kind: str = "F32",
    split: int = 0,
    factors: Any = None,
    replaced: Mapping[str, tuple[np.ndarray, Any]] | None = None,
    state: Mapping[str, Any] | None = None,
    left_out: str | None = None,
    **metadata: Any,
) -> Path:
    """Write a model.

    Args:
        model: a transformers model.
        arch: ``general.architecture``.
        tokenizer: metadata of a tokenizer.
        kind: the type of matrices; norms, biases and what does not fit its blocks stay float32.
        split: tensors of a part; 0 for one file.
        factors: ``rope_freqs.weight``.
        state: the model's weights under other names that the converter knows.
        left_out: a tensor that is not written.
        replaced: tensors to write as these bytes, (rows, bytes of a row), of a type.
        metadata: keys after the architecture's name (``__`` for a dot), over what the model says; None leaves one out.
    """
    import gguf

    config = model.config.to_dict()
    path.parent.mkdir(exist_ok=True)
    writer = gguf.GGUFWriter(str(path), arch, split_max_tensors=split)
    rope = config.get("rope_parameters") or {}
    rope = rope.get("full_attention", rope)
    head = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
    stated = {key: config[name] for name, key in NUMBERS.items() if config.get(name) is not None}
    stated["attention.layer_norm_rms_epsilon"] = stated.get("attention.layer_norm_rms_epsilon", 1e-5)
    stated |= {
        "rope.freq_base": rope.get("rope_theta", 10000.0),
        "rope.dimension_count": int(head * (rope.get("partial_rotary_factor") or 1)),
        "attention.key_length": head,
        "attention.value_length": head,
        "vocab_size": config["vocab_size"],
    }
    if "kv_lora_rank" in config:  # the converter makes one KV head of the latent
        turned, latent = config["qk_rope_head_dim"], config["kv_lora_rank"]
        stated |= {
            "attention.head_count_kv": 1, "rope.dimension_count": turned, "attention.key_length": latent + turned,
            "attention.value_length": latent, "attention.key_length_mla": config["qk_nope_head_dim"] + turned,
            "attention.value_length_mla": config["v_head_dim"],
            "expert_gating_func": 2 if config["model_type"] == "deepseek_v3" else 1,
        }  # fmt: skip
        if "mscale_all_dim" in rope:
            keys = {"factor": "factor", "original_max_position_embeddings": "original_context_length",
                    "beta_fast": "yarn_beta_fast", "beta_slow": "yarn_beta_slow"}  # fmt: skip
            stated |= {f"rope.scaling.{key}": rope[name] for name, key in keys.items()}
            stated |= {"rope.scaling.type": "yarn", "rope.scaling.yarn_log_multiplier": rope["mscale_all_dim"] / 10}
    if "sliding_window" in config and config["sliding_window"] is None:
        stated.pop("attention.sliding_window", None)
    stated |= {key.replace("__", "."): value for key, value in metadata.items()}
    for key, value in stated.items():
        if value is not None:
            add(writer, f"{arch}.{key}", value)
    for key, value in tokenizer.items():
        add(writer, key, value)
    if factors is not None:
        writer.add_tensor("rope_freqs.weight", np.asarray(factors, np.float32))
    for name, values in tensors(model, arch, state).items():
        if name == left_out:
            continue
        if name in (replaced or {}):
            raw, number = (replaced or {})[name]
            writer.add_tensor(name, raw, raw_dtype=number)
            continue
        quantized = kind if values.ndim > 1 and values.shape[-1] % 32 == 0 and "_inp" not in name else "F32"
        number = gguf.GGMLQuantizationType[quantized]
        writer.add_tensor(name, gguf.quants.quantize(values, number), raw_dtype=number)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path if not split else path.with_name(f"{path.stem}-00001-of-{len(writer.tensors):05d}.gguf")


def add(writer: Any, key: str, value: Any) -> None:
    """Add one entry, of the type that llama.cpp reads it as."""
    if isinstance(value, list | bytes):
        writer.add_array(key, value)
    elif isinstance(value, bool):
        writer.add_bool(key, value)
    elif isinstance(value, int):
        writer.add_uint32(key, value)
    elif isinstance(value, float):
        writer.add_float32(key, value)
    else:
        writer.add_string(key, value)


def tensors(model: Any, arch: str, state: Mapping[str, Any] | None = None) -> dict[str, np.ndarray]:
    """Name and arrange a model's weights as the converter does."""
    import gguf

    config = model.config
    number = {name: kind for kind, name in gguf.MODEL_ARCH_NAMES.items()}[arch]
    names = gguf.get_tensor_name_map(number, config.num_hidden_layers)
    tied = config.tie_word_embeddings
    result = {}
    state = apart(state or model.state_dict())
    for name in [name for name in state if name.endswith("kv_b_proj.weight")]:  # as MLA multiplies them
        halves = (
            state.pop(name)
            .unflatten(0, (config.num_attention_heads, -1))
            .split([config.qk_nope_head_dim, config.v_head_dim], 1)
        )
        state[name.replace("kv_b", "k_b")], state[name.replace("kv_b", "v_b")] = halves[0].mT, halves[1]
    for name in [name for name in state if ".norms.0." in name]:  # the norms of all heads
        heads = sum(other.startswith(name.partition(".norms.")[0]) for other in state)
        rows = [state.pop(name.replace(".0.weight", f".{head}.weight")) for head in range(heads)]
        state[name.replace(".norms.0", "")] = rows[0].new_tensor([row.tolist() for row in rows])
    for name, weight in state.items():
        if name == "lm_head.weight" and tied:
            continue
        values = weight.float().numpy()
        there = names.get_name(name.replace("correction_bias", "correction.bias"), try_suffixes=(".weight", ".bias"))
        assert there is not None, name
        if arch in PERMUTED and (".q_proj." in name or ".k_proj." in name):
            heads = config.num_attention_heads if ".q_proj." in name else config.num_key_value_heads
            values = values.reshape(heads, 2, values.shape[0] // heads // 2, *values.shape[1:])
            values = values.swapaxes(1, 2).reshape(weight.shape)
        if arch.startswith("gemma") and name.endswith("norm.weight"):
            values = values + 1
        result[there] = np.ascontiguousarray(values)
    return result


def apart(state: Mapping[str, Any]) -> dict[str, Any]:
    """Take the gates and ways up of all experts apart, which transformers 5 holds in one tensor."""
    result = {}
    for name, weight in state.items():
        if name.endswith("experts.gate_up_proj"):
            for way, half in zip(("gate", "up"), weight.chunk(2, dim=1), strict=True):
                result[f"{name.replace('gate_up', way)}.weight"] = half
        else:
            result[f"{name}.weight" if name.endswith("experts.down_proj") else name] = weight
    return result
