"""What the decoder computes, composed from operations."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import TypedDict

from zoo.contracts import Parameter
from zoo.declarations.architecture import Architecture
from zoo.decoder import experts, latent, weights
from zoo.errors import ZooError
from zoo.operations import Angles, GraphOps, Rotary, Value

Weights = Mapping[str, Parameter]
"""Role → weight."""


class Heads(TypedDict):
    """How packed q, k and v are divided."""

    num_heads: int
    num_kv_heads: int
    head_dim: int


def forward(arch: Architecture, ops: GraphOps, head_multiple: int) -> None:
    """Compose the decoder: embedding, layers, final norm, head."""
    x = ops.linear("/lm_head", hidden_states(arch, ops, head_multiple), weights.head(arch))
    if (factor := arch.logit_scale / arch.logits_scaling) != 1:
        x = ops.scale("/lm_head/scale", x, factor)
    if arch.final_logit_softcapping is not None:
        x = ops.softcap("/lm_head/softcap", x, arch.final_logit_softcapping)
    ops.logits(x)


def hidden_states(arch: Architecture, ops: GraphOps, head_multiple: int) -> Value:
    """Compose all but the head."""
    x = ops.embedding("embed_tokens", ops.tokens(arch.context_length), weights.embedding(arch))
    if arch.scale_embedding:
        x = ops.scale("embed_tokens/Mul", x, arch.hidden_size**0.5)
    if arch.embedding_multiplier != 1:
        x = ops.scale("embed_tokens/multiplier", x, arch.embedding_multiplier)
    turns = Turns(arch, arch.padded_head(head_multiple))
    for index in range(arch.num_hidden_layers):
        with ops.layer(index):
            x = _Layer(arch, ops, head_multiple, index, turns).compose(x)
    return _norm(arch, ops, "norm", x, weights.final_norm(arch))


class _Layer:
    """One layer: attention and an MLP, each beside a residual connection."""

    def __init__(self, arch: Architecture, ops: GraphOps, head_multiple: int, index: int, turns: Turns) -> None:
        self._arch, self._ops, self._index, self._turns = arch, ops, index, turns
        self._weights = weights.layer_parameters(arch, index, head_multiple)
        self._size = arch.padded_head(head_multiple)

    def compose(self, x: Value) -> Value:
        arch, ops, residual = self._arch, self._ops, x
        x = self._norm("input_layernorm", x) if arch.norms_before else x
        mixed = self._attention(x)
        if self._index == arch.num_hidden_layers - 1:
            # Nothing after the last attention looks at other positions: the rest is computed where logits are wanted.
            mixed = ops.last_positions("last_positions/attn", mixed)
            residual = ops.last_positions("last_positions/residual", residual)
            x = ops.last_positions("last_positions/mlp", x) if arch.use_parallel_residual else x
        mixed = self._linear("attn/o_proj", mixed, "attn.o_proj")
        mixed = self._norm("post_attention_layernorm", mixed) if arch.norms_after else mixed
        residual = ops.add("attn/residual", residual, self._scaled("attn", mixed))
        if not arch.use_parallel_residual:
            role = "pre_feedforward_layernorm" if arch.norms_after else "post_attention_layernorm"
            x = self._norm(role, residual) if arch.norms_before else residual
        x = self._mlp(x)
        x = self._norm("post_feedforward_layernorm", x) if arch.norms_after else x
        return ops.add("mlp/residual", residual, self._scaled("mlp", x))

    def _attention(self, x: Value) -> Value:
        arch, ops, size = self._arch, self._ops, self._size
        heads: Heads = {
            "num_heads": arch.num_attention_heads, "num_kv_heads": arch.num_key_value_heads, "head_dim": size,
        }  # fmt: skip
        scale = arch.attention_multiplier or (arch.query_pre_attn_scalar or arch.head_dim) ** -0.5
        if arch.kv_lora_rank is not None:
            x = latent.queries_keys_values(arch, ops, self._weights, x, size)
            scale *= latent.magnitude(arch)
        else:
            x = self._linear("attn/qkv_proj", x, "attn.qkv_proj")
        if arch.qk_norm:
            if arch.norm == "layer" and size != arch.head_dim:
                raise ZooError(f"a LayerNorm of heads of {arch.head_dim} is not supported where kernels want {size}")
            # A norm over a padded head divides by the padded size. Its epsilon is made smaller to match, and the factor
            # that is left, the same for q and k, goes into the scale of the scores.
            scale *= arch.head_dim / size
            x = ops.norm_heads(
                "attn", x, self._weights["attn.q_norm"], self._weights["attn.k_norm"],
                arch.rms_norm_eps * arch.head_dim / size, **heads, centered=arch.norm == "layer",
                together=arch.qk_norm_over == "all heads",
            )  # fmt: skip
        return ops.attention(
            "attn", x, scale=scale, rotary=self._turns.of(self._index), window=arch.window(self._index),
            softcap=arch.attn_logit_softcapping, slopes=slopes(arch), sinks=self._weights.get("attn.sinks"), **heads,
        )  # fmt: skip

    def _mlp(self, x: Value) -> Value:
        ops, up = self._ops, self._linear
        if self._arch.is_sparse(self._index):
            return experts.compose(self._arch, ops, self._weights, x)
        if not self._arch.gated_mlp:
            x = ops.activation("mlp/act_fn", up("mlp/up_proj", x, "mlp.up_proj"), self._arch.hidden_act)
            return up("mlp/down_proj", x, "mlp.down_proj")
        gate, wide = up("mlp/gate_proj", x, "mlp.gate_proj"), up("mlp/up_proj", x, "mlp.up_proj")
        gate = ops.activation("mlp/act_fn", gate, self._arch.hidden_act)
        return up("mlp/down_proj", ops.multiply("mlp/Mul", gate, wide), "mlp.down_proj")

    def _linear(self, name: str, x: Value, role: str) -> Value:
        return self._ops.linear(name, x, self._weights[role], self._weights.get(f"{role}.bias"))

    def _norm(self, role: str, x: Value) -> Value:
        return _norm(self._arch, self._ops, role, x, self._weights)

    def _scaled(self, name: str, x: Value) -> Value:
        factor = self._arch.residual_multiplier
        return x if factor == 1 else self._ops.scale(f"{name}/multiplier", x, factor)


def _norm(arch: Architecture, ops: GraphOps, role: str, x: Value, by_role: Weights) -> Value:
    if arch.norm == "rms":
        return ops.rms_norm(role, x, by_role[role], arch.rms_norm_eps)
    return ops.layer_norm(role, x, by_role[role], by_role.get(f"{role}.bias"), arch.rms_norm_eps)


class Turns:
    """The rotary positions of each layer; those that are alike are one object."""

    def __init__(self, arch: Architecture, padded: int) -> None:
        self._arch, self._whole = arch, rotary(arch, padded)
        self._local = self._whole
        if arch.rope_local_base_freq is not None:
            local = {"rope_theta": arch.rope_local_base_freq, "rope_scaling": None}
            self._local = rotary(arch.model_copy(update=local), padded)

    def of(self, layer: int) -> Rotary | None:
        """How a layer turns heads; None where it does not."""
        if not self._arch.turns(layer):
            return None
        return self._whole if self._arch.window(layer) is None else self._local


def slopes(arch: Architecture) -> tuple[float, ...] | None:
    """How steeply the scores of each head fall with the distance; None where heads are turned (arXiv 2108.12409).

    Powers of 2^(-8/n) for the first n heads, n being a power of two; the heads behind take every other one of 2n heads.
    """
    if arch.positions == "rotary":
        return None
    heads = arch.num_attention_heads
    whole = 1 << heads.bit_length() - 1
    steps = [8 / whole * (head + 1) for head in range(whole)]
    steps += [4 / whole * (2 * head + 1) for head in range(heads - whole)]
    return tuple(2.0**-step for step in steps)


def rotary(arch: Architecture, padded: int) -> Rotary:
    """Describe the rotary positions of heads that are ``padded`` wide; the padding does not turn."""
    turned = arch.model_copy(update={"head_dim": arch.turning, "partial_rotary_factor": 1.0})
    width = padded if arch.turns_halves else arch.turning

    @cache
    def angles() -> Angles:
        from zoo.decoder.rotary import angles  # needs numpy, which lists of models do without

        return angles(turned, width)

    # Halves of a padded head are moved to its halves; other pairs stay where they are, before the padding.
    return Rotary(angles, arch.rotary_interleaved, None if width == padded else width)
