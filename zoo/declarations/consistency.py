"""What numbers of experts and of latents must have to do with each other."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from zoo.declarations.architecture import Architecture

MOST_EXPERTS = 100_000
"""Of all layers together: each has tensors of its own, and they are listed."""


def check_latent(arch: Architecture) -> None:
    """Refuse widths of an attention over a latent that do not fit each other.

    Raises:
        ValueError: naming them.
    """
    if arch.kv_lora_rank is None:
        return
    if arch.num_key_value_heads != arch.num_attention_heads:
        raise ValueError(f"num_key_value_heads {arch.num_key_value_heads} of kv_lora_rank {arch.kv_lora_rank}")
    if not 0 < arch.v_head_dim <= arch.head_dim or not 0 < arch.qk_rope_head_dim < arch.head_dim:
        raise ValueError(
            f"v_head_dim {arch.v_head_dim} and qk_rope_head_dim {arch.qk_rope_head_dim} do not fit heads of "
            f"{arch.head_dim}"
        )
    if arch.attention_bias or arch.qkv_bias or arch.qk_norm:
        raise ValueError("biases and norms of heads are not supported with kv_lora_rank")


def check_experts(arch: Architecture) -> None:
    """Refuse numbers of experts and groups that do not fit each other, or too many.

    Raises:
        ValueError: naming them.
    """
    if arch.num_experts is None:
        return
    if arch.num_experts_per_tok > arch.num_experts:
        raise ValueError(f"num_experts_per_tok {arch.num_experts_per_tok} of num_experts {arch.num_experts}")
    if arch.hidden_act != "silu":
        raise ValueError(f"experts of hidden_act {arch.hidden_act!r} are not supported")
    if arch.num_experts * arch.num_hidden_layers > MOST_EXPERTS:
        raise ValueError(f"num_experts {arch.num_experts} in {arch.num_hidden_layers} layers are too many")
    each, rest = divmod(arch.num_experts, arch.n_group)
    best = 2 if arch.topk_method == "noaux_tc" else 1
    if rest or arch.topk_group > arch.n_group or (arch.n_group > 1 and best > each):
        raise ValueError(f"num_experts {arch.num_experts} in n_group {arch.n_group} of topk_group {arch.topk_group}")
    if arch.num_experts_per_tok > each * arch.topk_group:
        raise ValueError(
            f"num_experts_per_tok {arch.num_experts_per_tok} of {arch.topk_group} groups of {each} experts"
        )
