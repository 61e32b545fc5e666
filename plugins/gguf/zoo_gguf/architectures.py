"""The architectures that GGUF files name, as data: what their numbers and tensors are called in transformers.

Names of keys and tensors: gguf-py's ``constants.py`` and ``tensor_mapping.py``. What a conversion does to numbers and
weights: llama.cpp's ``convert_hf_to_gguf.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

NUMBERS = {
    "context_length": "max_position_embeddings",
    "embedding_length": "hidden_size",
    "block_count": "num_hidden_layers",
    "feed_forward_length": "intermediate_size",
    "attention.head_count": "num_attention_heads",
    "attention.head_count_kv": "num_key_value_heads",
    "attention.key_length": "head_dim",
    "attention.layer_norm_rms_epsilon": "rms_norm_eps",
    "attention.sliding_window": "sliding_window",
    "rope.freq_base": "rope_theta",
}
"""Keys after the architecture's name → keys of ``config.json``, of every architecture."""
OUTSIDE = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
"""Tensors outside the layers."""
_ATTENTION = {f"attn_{letter}": f"self_attn.{letter}_proj" for letter in "qkv"} | {"attn_output": "self_attn.o_proj"}
_MLP = {f"ffn_{way}": f"mlp.{way}_proj" for way in ("gate", "up", "down")}
_HEAD_NORMS = {f"attn_{letter}_norm": f"self_attn.{letter}_norm" for letter in "qk"}
_BEFORE = {"attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm"}
_AFTER = {"post_attention_norm": "post_attention_layernorm", "post_ffw_norm": "post_feedforward_layernorm"}
_AROUND = {**_AFTER, "attn_norm": "input_layernorm", "ffn_norm": "pre_feedforward_layernorm"}
_LLAMA = {**_BEFORE, **_ATTENTION, **_MLP}
_CAPS = {"attn_logit_softcapping": "attn_logit_softcapping", "final_logit_softcapping": "final_logit_softcapping"}
_ROUTED = {"expert_used_count": "num_experts_per_tok"}
_LAYER_NORM = {"attention.layer_norm_epsilon": "layer_norm_eps"}
_EACH_EXPERT = {f"ffn_{way}_exps": f"mlp.experts.{{}}.{way}_proj" for way in ("gate", "up", "down")}
_LATENT = {
    **_LLAMA, "attn_q_a": "self_attn.q_a_proj", "attn_q_a_norm": "self_attn.q_a_layernorm",
    "attn_q_b": "self_attn.q_b_proj", "attn_kv_a_mqa": "self_attn.kv_a_proj_with_mqa",
    "attn_kv_a_norm": "self_attn.kv_a_layernorm", "attn_kv_b": "self_attn.kv_b_proj", "ffn_gate_inp": "mlp.gate",
    "exp_probs_b.bias": "mlp.gate.e_score_correction_bias",
    **{f"ffn_{way}_shexp": f"mlp.shared_experts.{way}_proj" for way in ("gate", "up", "down")},
}  # fmt: skip
_SHARED = {
    **_ROUTED, "expert_count": "n_routed_experts", "expert_feed_forward_length": "moe_intermediate_size",
    "expert_shared_count": "n_shared_experts", "leading_dense_block_count": "first_k_dense_replace",
    "expert_weights_scale": "routed_scaling_factor", "expert_weights_norm": "norm_topk_prob",
    "expert_group_count": "n_group", "expert_group_used_count": "topk_group",
    "attention.q_lora_rank": "q_lora_rank", "attention.kv_lora_rank": "kv_lora_rank",
}  # fmt: skip
_UNSAID = {"first_k_dense_replace": 0, "routed_scaling_factor": 1.0, "norm_topk_prob": False, "q_lora_rank": None}


@dataclass(frozen=True)
class Joined:
    """What transformers has as one tensor and a file as several: so many rows of each in turn.

    Attributes:
        parts: the file's tensors; each has as many rows for every group.
        groups: the key of ``config.json`` that counts the groups; None is one.
        turned: the part that holds a matrix for each group, rows for columns.
    """

    parts: tuple[str, ...]
    groups: str | None = None
    turned: str | None = None


_QKV = ("attn_q", "attn_k", "attn_v")
_KV_B = {"self_attn.kv_b_proj": Joined(("attn_k_b", "attn_v_b"), "num_attention_heads", turned="attn_k_b")}


@dataclass(frozen=True)
class GgufArchitecture:
    """One architecture.

    Attributes:
        model_type: its name in transformers.
        layer: tensors of a layer → names inside the layer; with ``.bias`` one whose name there ends otherwise.
        outside: tensors outside the layers → names.
        layers: what the layers are called.
        joined: names inside a layer of what a file stores in several tensors.
        experts: tensors of all experts of a layer, (experts, rows, columns), or of the norms of all heads, (heads,
            size) → names of one, with ``{}`` for its number.
        numbers: keys of its own, beside ``NUMBERS``.
        fixed: what every such model's ``config.json`` says and no key does.
        bias: the key of ``config.json`` that states biases of q, k and v, where they are a choice.
        head_norms: the key that states norms over the heads of q and k, where they are a choice.
        permuted: the rows of q and k lie with the pairs that positions turn side by side, not half a head apart.
        norm_offset: what the conversion added to the weights of norms.
        window_every: of so many layers the last sees everything, the others a window; 0 where all are alike.
        rope_every: of so many layers the last is not turned by position; 0 where all are.
        wide_from: from so many layers on, scores are scaled by the hidden size over the heads, not by the head's size;
            0 where the file says all of it.
        partial_rotary: ``rope.dimension_count`` may be less than a head.
        latent: keys and values of all heads are made of one latent (MLA), and a file counts one KV head.
        behind_padding: a file's table of positions begins with the row of a text's first token, behind padding's.
        alibi_at: with so many layers scores fall with the distance, and nothing turns heads; 0 where none does.
    """

    model_type: str
    layer: Mapping[str, str] = field(default_factory=lambda: _LLAMA)
    experts: Mapping[str, str] = field(default_factory=dict)
    numbers: Mapping[str, str] = field(default_factory=dict)
    fixed: Mapping[str, Any] = field(default_factory=dict)
    bias: str | None = None
    head_norms: str | None = None
    permuted: bool = False
    norm_offset: float = 0.0
    window_every: int = 0
    rope_every: int = 0
    wide_from: int = 0
    partial_rotary: bool = False
    outside: Mapping[str, str] = field(default_factory=lambda: OUTSIDE)
    layers: str = "model.layers"
    joined: Mapping[str, Joined] = field(default_factory=dict)
    latent: bool = False
    alibi_at: int = 0
    behind_padding: bool = False


ARCHITECTURES: dict[str, GgufArchitecture] = {
    "llama": GgufArchitecture("llama", bias="attention_bias", permuted=True),
    "qwen2": GgufArchitecture("qwen2"),
    "qwen3": GgufArchitecture("qwen3", {**_LLAMA, **_HEAD_NORMS}, bias="attention_bias"),
    "qwen3moe": GgufArchitecture(
        "qwen3_moe",
        {**_LLAMA, **_HEAD_NORMS, "ffn_gate_inp": "mlp.gate"},
        _EACH_EXPERT,
        {**_ROUTED, "expert_count": "num_experts", "expert_feed_forward_length": "moe_intermediate_size"},
        {"norm_topk_prob": True, "decoder_sparse_step": 1, "mlp_only_layers": []},
        bias="attention_bias",
    ),
    "gemma": GgufArchitecture("gemma", norm_offset=1.0),
    "gemma2": GgufArchitecture(
        "gemma2", {**_ATTENTION, **_MLP, **_AROUND}, numbers=_CAPS, norm_offset=1.0, window_every=2, wide_from=46
    ),
    "gemma3": GgufArchitecture(
        "gemma3_text",
        {**_ATTENTION, **_HEAD_NORMS, **_MLP, **_AROUND},
        numbers={**_CAPS, "rope.freq_base_swa": "rope_local_base_freq"},
        fixed={"rope_local_base_freq": 10000.0},
        norm_offset=1.0,
        window_every=6,
        wide_from=62,
    ),
    "phi3": GgufArchitecture(
        "phi3",
        {**_BEFORE, "attn_qkv": "self_attn.qkv_proj", "attn_output": "self_attn.o_proj", "ffn_up": "mlp.gate_up_proj",
         "ffn_down": "mlp.down_proj"},
        numbers={"rope.scaling.original_context_length": "original_max_position_embeddings"},
        partial_rotary=True,
    ),
    "stablelm": GgufArchitecture(
        "stablelm",
        experts={f"attn_{letter}_norm": f"self_attn.{letter}_layernorm.norms.{{}}" for letter in "qk"},
        numbers={**_LAYER_NORM, "use_parallel_residual": "use_parallel_residual"},
        bias="use_qkv_bias",
        head_norms="qk_layernorm", partial_rotary=True,
    ),
    "olmo2": GgufArchitecture("olmo2", {**_ATTENTION, **_HEAD_NORMS, **_MLP, **_AFTER}),
    "granite": GgufArchitecture(
        "granite",
        numbers={
            "attention.scale": "attention_multiplier", "embedding_scale": "embedding_multiplier",
            "residual_scale": "residual_multiplier", "logit_scale": "logits_scaling",
        },
        bias="attention_bias",
        permuted=True,
    ),
    "smollm3": GgufArchitecture("smollm3", bias="attention_bias", permuted=True, rope_every=4),
    "exaone4": GgufArchitecture("exaone4", {**_ATTENTION, **_HEAD_NORMS, **_MLP, **_AFTER}, window_every=4),
    "command-r": GgufArchitecture(
        "cohere",
        {**_ATTENTION, **_HEAD_NORMS, **_MLP, "attn_norm": "input_layernorm"},
        numbers={**_LAYER_NORM, "logit_scale": "logit_scale"},
        bias="attention_bias",
        head_norms="use_qk_norm",
    ),
    "cohere2": GgufArchitecture(
        "cohere2",
        {**_ATTENTION, **_MLP, "attn_norm": "input_layernorm"},
        numbers={**_LAYER_NORM, "logit_scale": "logit_scale"},
        bias="attention_bias",
        window_every=4,
    ),
    "internlm2": GgufArchitecture(
        "internlm2",
        {"attn_norm": "attention_norm", "ffn_norm": "ffn_norm", "attn_output": "attention.wo",
         **{f"ffn_{way}": f"feed_forward.{name}" for way, name in (("gate", "w1"), ("up", "w3"), ("down", "w2"))}},
        outside={"token_embd": "model.tok_embeddings", "output_norm": "model.norm", "output": "output"},
        joined={"attention.wqkv": Joined(_QKV, "num_key_value_heads")},
        permuted=True,
    ),
    "baichuan": GgufArchitecture(
        "baichuan",
        {**_BEFORE, **_MLP, "attn_output": "self_attn.o_proj"},
        joined={"self_attn.W_pack": Joined(_QKV)},
        permuted=True,
        alibi_at=40,
    ),
    "chatglm": GgufArchitecture(
        "chatglm",
        {**_BEFORE, "attn_qkv": "self_attention.query_key_value", "attn_output": "self_attention.dense",
         "ffn_up": "mlp.dense_h_to_4h", "ffn_down": "mlp.dense_4h_to_h"},
        outside={"token_embd": "transformer.embedding.word_embeddings",
                 "output_norm": "transformer.encoder.final_layernorm", "output": "transformer.output_layer"},
        layers="transformer.encoder.layers",
        bias="add_qkv_bias",
        partial_rotary=True,
    ),
    "falcon": GgufArchitecture(
        "falcon",
        {"attn_norm": "input_layernorm", "attn_qkv": "self_attention.query_key_value",
         "attn_output": "self_attention.dense", "ffn_up": "mlp.dense_h_to_4h", "ffn_down": "mlp.dense_4h_to_h"},
        numbers={"attention.layer_norm_epsilon": "layer_norm_epsilon"},
        outside={"token_embd": "transformer.word_embeddings", "output_norm": "transformer.ln_f", "output": "lm_head"},
        layers="transformer.h",
    ),
    "bert": GgufArchitecture(
        "bert",
        {"attn_q": "attention.self.query", "attn_k": "attention.self.key", "attn_v": "attention.self.value",
         "attn_output": "attention.output.dense", "attn_output_norm": "attention.output.LayerNorm",
         "ffn_up": "intermediate.dense", "ffn_down": "output.dense", "layer_output_norm": "output.LayerNorm"},
        numbers=_LAYER_NORM,
        fixed={"hidden_act": "gelu"},
        outside={short: f"bert.embeddings.{name}" for short, name in (
            ("token_embd", "word_embeddings"), ("position_embd", "position_embeddings"),
            ("token_types", "token_type_embeddings"), ("token_embd_norm", "LayerNorm"))},
        layers="bert.encoder.layer",
    ),
    "deepseek2": GgufArchitecture(
        "deepseek_v2", _LATENT, _EACH_EXPERT, _SHARED, {**_UNSAID, "topk_method": "greedy"}, joined=_KV_B, latent=True,
    ),
}  # fmt: skip
"""``general.architecture`` → what it means."""
ROBERTA = replace(
    ARCHITECTURES["bert"],
    model_type="xlm-roberta",
    outside={short: name.replace("bert.", "roberta.") for short, name in ARCHITECTURES["bert"].outside.items()},
    layers="roberta.encoder.layer",
    behind_padding=True,
)
"""What ``bert`` means where the tokenizer is one of unigrams."""
VARIANTS = {
    "llama": ("ffn_gate_inp", GgufArchitecture(
        "mixtral",
        {**_LLAMA, "ffn_gate_inp": "block_sparse_moe.gate"},
        {f"ffn_{way}_exps": f"block_sparse_moe.experts.{{}}.{name}"
         for way, name in (("gate", "w1"), ("up", "w3"), ("down", "w2"))},
        {**_ROUTED, "expert_count": "num_local_experts"},
        permuted=True,
    )),
    "chatglm": ("attn_q", GgufArchitecture(
        "glm",
        {**_BEFORE, **_ATTENTION, "ffn_up": "mlp.gate_up_proj", "ffn_down": "mlp.down_proj"},
        bias="attention_bias",
        partial_rotary=True,
    )),
    "deepseek2": ("exp_probs_b", GgufArchitecture(
        "deepseek_v3", _LATENT, _EACH_EXPERT, _SHARED, {**_UNSAID, "topk_method": "noaux_tc"}, joined=_KV_B,
        latent=True,
    )),
}  # fmt: skip
"""A tensor of a layer, and what the name means where a file has it."""
