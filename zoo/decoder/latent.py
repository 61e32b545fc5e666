"""Attention over a latent: keys and values of all heads come from one narrow vector a token (MLA).

DeepSeek-AI, arXiv 2405.04434, section 2.1. Keys and values are made of the latent before they are cached, so that any
kernel for attention computes it. A head begins with the values that positions turn, which all heads' keys share.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from functools import cache

from zoo.contracts import HeadPadding, Parameter, ParameterKind, RowSlice
from zoo.declarations.architecture import Architecture
from zoo.operations import GraphOps, Value

EPS = 1e-6
"""Epsilon of the norms of latents, whatever that of the others."""


def parameters(arch: Architecture, layer: int, head_multiple: int) -> Iterator[Parameter]:
    """List the weights of a layer's attention in the order they are used."""
    prefix, heads, hidden = f"model.layers.{layer}.", arch.num_attention_heads, arch.hidden_size
    plain, turned, value = arch.qk_nope_head_dim, arch.qk_rope_head_dim, arch.v_head_dim
    latent, padded = arch.kv_lora_rank or 0, arch.padded_head(head_multiple)

    def parameter(role: str, kind: ParameterKind, tensor: str, shape: tuple[int, ...], **taken: object) -> Parameter:
        rows = RowSlice(f"{prefix}self_attn.{tensor}.weight", shape, **taken)  # type: ignore[arg-type]
        return Parameter(f"{prefix}{role}.weight", kind, (rows,), layer, role)

    def widened(size: int, to: int) -> HeadPadding | None:
        return None if size == to else HeadPadding(heads, size, to, rotary=False)

    query = {"rows": _queries(heads, plain, turned), "pad_rows": widened(plain + turned, padded)}
    if arch.q_lora_rank is None:
        yield parameter("attn.q_proj", "linear", "q_proj", (heads * (plain + turned), hidden), **query)
    else:
        rank = arch.q_lora_rank
        yield parameter("attn.q_a_proj", "linear", "q_a_proj", (rank, hidden))
        yield parameter("attn.q_a_norm", "norm", "q_a_layernorm", (rank,))
        yield parameter("attn.q_proj", "linear", "q_b_proj", (heads * (plain + turned), rank), **query)
    down = (latent + turned, hidden)
    yield parameter("attn.kv_a_proj", "linear", "kv_a_proj_with_mqa", down, rows=range(latent))
    yield parameter("attn.k_turned", "linear", "kv_a_proj_with_mqa", down, rows=range(latent, latent + turned))
    yield parameter("attn.kv_a_norm", "norm", "kv_a_layernorm", (latent,))
    up = (heads * (plain + value), latent)
    for role, first, size, width in (("k", 0, plain, padded - turned), ("v", plain, value, padded)):
        rows = _each_head(heads, plain + value, first, size)
        yield parameter(f"attn.{role}_proj", "linear", "kv_b_proj", up, rows=rows, pad_rows=widened(size, width))
    output = (hidden, heads * value)
    yield parameter("attn.o_proj", "linear", "o_proj", output, pad_columns=widened(value, padded))


@cache
def _each_head(heads: int, stride: int, first: int, size: int) -> tuple[int, ...]:
    """Take as many rows of each head."""
    return tuple(head * stride + first + row for head in range(heads) for row in range(size))


@cache
def _queries(heads: int, plain: int, turned: int) -> tuple[int, ...]:
    """Take each head's rows, those that turn first."""
    order = (*range(plain, plain + turned), *range(plain))
    return tuple(head * (plain + turned) + row for head in range(heads) for row in order)


def queries_keys_values(
    arch: Architecture, ops: GraphOps, weights: Mapping[str, Parameter], x: Value, head_dim: int
) -> Value:
    """Compose packed q, k, v of heads that are ``head_dim`` wide."""
    query = x
    if "attn.q_a_proj" in weights:
        query = ops.linear("attn/q_a_proj", x, weights["attn.q_a_proj"])
        query = ops.rms_norm("attn/q_a_norm", query, weights["attn.q_a_norm"], EPS)
    latent = ops.linear("attn/kv_a_proj", x, weights["attn.kv_a_proj"])
    latent = ops.rms_norm("attn/kv_a_norm", latent, weights["attn.kv_a_norm"], EPS)
    return ops.join_heads(
        "attn",
        ops.linear("attn/q_proj", query, weights["attn.q_proj"]),
        ops.linear("attn/k_turned", x, weights["attn.k_turned"]),
        ops.linear("attn/k_proj", latent, weights["attn.k_proj"]),
        ops.linear("attn/v_proj", latent, weights["attn.v_proj"]),
        num_heads=arch.num_attention_heads,
        num_kv_heads=arch.num_key_value_heads,
        head_dim=head_dim,
    )


def magnitude(arch: Architecture) -> float:
    """What YaRN's ``mscale_all_dim`` multiplies the scores of such attention by, beside what it does to the angles."""
    scaling = arch.rope_scaling
    if scaling is None or not scaling.mscale_all_dim or scaling.factor <= 1:
        return 1.0
    return float((0.1 * scaling.mscale_all_dim * math.log(scaling.factor) + 1.0) ** 2)
