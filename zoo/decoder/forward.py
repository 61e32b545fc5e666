"""What the decoder computes, composed from operations."""

from __future__ import annotations

from functools import cache
from typing import TypedDict

from zoo.declarations.architecture import Architecture
from zoo.decoder import weights
from zoo.operations import Angles, GraphOps, Rotary, Value


class Heads(TypedDict):
    """How packed q, k and v are divided."""

    num_heads: int
    num_kv_heads: int
    head_dim: int


def forward(arch: Architecture, ops: GraphOps, head_multiple: int) -> None:
    """Compose the decoder: embedding, layers, final norm, head."""
    turns = rotary(arch, arch.padded_head(head_multiple))
    x = ops.embedding("embed_tokens", ops.tokens(arch.context_length), weights.embedding(arch))
    if arch.scale_embedding:
        x = ops.scale("embed_tokens/Mul", x, arch.hidden_size**0.5)
    for index in range(arch.num_hidden_layers):
        with ops.layer(index):
            x = _layer(arch, ops, head_multiple, index, x, turns)
    x = ops.rms_norm("norm", x, weights.final_norm(arch), arch.rms_norm_eps)
    ops.logits(ops.linear("/lm_head", x, weights.head(arch)))


def _layer(arch: Architecture, ops: GraphOps, head_multiple: int, index: int, x: Value, turns: Rotary) -> Value:
    """Compose one layer: attention and a gated MLP, each after a norm and beside a residual connection."""
    by_role, eps = weights.layer_parameters(arch, index, head_multiple), arch.rms_norm_eps
    size, scale, residual = arch.padded_head(head_multiple), arch.head_dim**-0.5, x
    heads: Heads = {
        "num_heads": arch.num_attention_heads, "num_kv_heads": arch.num_key_value_heads, "head_dim": size,
    }  # fmt: skip
    x = ops.rms_norm("input_layernorm", x, by_role["input_layernorm"], eps)
    x = ops.linear("attn/qkv_proj", x, by_role["attn.qkv_proj"], by_role.get("attn.qkv_proj.bias"))
    if arch.qk_norm:
        # A norm over a padded head divides by the padded size. Its epsilon is made smaller to match, and the factor
        # that is left, the same for q and k, goes into the scale of the scores.
        scale *= arch.head_dim / size
        own = eps * arch.head_dim / size
        x = ops.norm_heads("attn", x, by_role["attn.q_norm"], by_role["attn.k_norm"], own, **heads)
    x = ops.attention("attn", x, scale=scale, rotary=turns, window=arch.window(index), **heads)
    if index == arch.num_hidden_layers - 1:
        # Nothing after the last attention looks at other positions: the rest is computed where logits are wanted.
        x = ops.last_positions("last_positions/attn", x)
        residual = ops.last_positions("last_positions/residual", residual)
    x = ops.linear("attn/o_proj", x, by_role["attn.o_proj"], by_role.get("attn.o_proj.bias"))
    residual = ops.add("attn/residual", residual, x)

    x = ops.rms_norm("post_attention_layernorm", residual, by_role["post_attention_layernorm"], eps)
    gate = ops.linear("mlp/gate_proj", x, by_role["mlp.gate_proj"], by_role.get("mlp.gate_proj.bias"))
    up = ops.linear("mlp/up_proj", x, by_role["mlp.up_proj"], by_role.get("mlp.up_proj.bias"))
    gate = ops.activation("mlp/act_fn", gate, arch.hidden_act)
    x = ops.multiply("mlp/Mul", gate, up)
    x = ops.linear("mlp/down_proj", x, by_role["mlp.down_proj"], by_role.get("mlp.down_proj.bias"))
    return ops.add("mlp/residual", residual, x)


def rotary(arch: Architecture, padded: int) -> Rotary:
    """Describe the rotary positions of heads that are ``padded`` wide; the padding does not turn."""

    @cache
    def angles() -> Angles:
        from zoo.decoder.rotary import angles  # needs numpy, which lists of models do without

        return angles(arch, padded)

    return Rotary(angles)
