"""What the decoder computes, composed from a target's operations."""

from __future__ import annotations

from typing import Any

from zoo.contracts import GraphOps
from zoo.declarations.architecture import Architecture
from zoo.decoder import weights
from zoo.decoder.rotary import rotary


def forward(arch: Architecture, ops: GraphOps, head_multiple: int) -> None:
    """Compose the decoder: embedding, layers, final norm, head."""
    size = arch.padded_head(head_multiple)
    heads: dict[str, int] = {
        "num_heads": arch.num_attention_heads, "num_kv_heads": arch.num_key_value_heads, "head_dim": size,
    }  # fmt: skip
    turns, scale = rotary(arch, size), arch.head_dim**-0.5
    # A norm over a padded head divides by the padded size. Its epsilon is made smaller to match, and the factor that
    # is left, the same for q and k, goes into the scale of the scores.
    eps = arch.rms_norm_eps * arch.head_dim / size
    if arch.qk_norm:
        scale *= arch.head_dim / size
    x = ops.embedding("/model/embed_tokens", ops.tokens(), weights.embedding(arch))
    if arch.scale_embedding:
        x = ops.scale("/model/embed_tokens/Mul", x, arch.hidden_size**0.5)
    residual: Any = None
    for layer in range(arch.num_hidden_layers):
        by_role = weights.layer_parameters(arch, layer, head_multiple)
        name = f"/model/layers.{layer}"
        norm = by_role["input_layernorm"]
        if residual is None:
            residual, x = x, ops.rms_norm(f"{name}/input_layernorm", x, norm, arch.rms_norm_eps)
        else:
            x, residual = ops.add_rms_norm(f"{name}/input_layernorm", x, residual, norm, arch.rms_norm_eps)

        x = ops.linear(f"{name}/attn/qkv_proj", x, by_role["attn.qkv_proj"], by_role.get("attn.qkv_proj.bias"))
        if arch.qk_norm:
            x = ops.norm_heads(f"{name}/attn", x, by_role["attn.q_norm"], by_role["attn.k_norm"], eps, **heads)
        window = arch.window(layer)
        x = ops.attention(f"{name}/attn", x, layer=layer, scale=scale, rotary=turns, window=window, **heads)
        if layer == arch.num_hidden_layers - 1:
            # Nothing after the last attention looks at other positions: the rest is computed where logits are wanted.
            x = ops.last_positions(f"{name}/last_positions/attn", x)
            residual = ops.last_positions(f"{name}/last_positions/residual", residual)
        x = ops.linear(f"{name}/attn/o_proj", x, by_role["attn.o_proj"], by_role.get("attn.o_proj.bias"))

        norm = by_role["post_attention_layernorm"]
        x, residual = ops.add_rms_norm(f"{name}/post_attention_layernorm", x, residual, norm, arch.rms_norm_eps)
        gate = ops.linear(f"{name}/mlp/gate_proj", x, by_role["mlp.gate_proj"], by_role.get("mlp.gate_proj.bias"))
        up = ops.linear(f"{name}/mlp/up_proj", x, by_role["mlp.up_proj"], by_role.get("mlp.up_proj.bias"))
        gate = ops.activation(f"{name}/mlp/act_fn", arch.hidden_act, gate)
        x = ops.multiply(f"{name}/mlp/Mul", gate, up)
        x = ops.linear(f"{name}/mlp/down_proj", x, by_role["mlp.down_proj"], by_role.get("mlp.down_proj.bias"))
    x, _ = ops.add_rms_norm("/model/norm", x, residual, weights.final_norm(arch), arch.rms_norm_eps)
    ops.logits(ops.linear("/lm_head", x, weights.head(arch)))
