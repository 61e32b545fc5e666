"""Which tensors a decoder's checkpoint holds, and how they become the weights of the graph."""

from __future__ import annotations

import fnmatch

from zoo.contracts import HeadPadding, Parameter, ParameterKind, RowSlice, stacked
from zoo.declarations.architecture import Architecture
from zoo.sources.buffers import is_buffer

EMBEDDING = "model.embed_tokens.weight"
HEAD = "lm_head.weight"
FINAL_NORM = "model.norm.weight"

# Buffers that older conversions saved: computed from the numbers, never learned.
_BUFFERS = ("*.attn.masked_bias", "*.self_attn.bias")


def tensors(arch: Architecture) -> dict[str, tuple[int, ...]]:
    """Name every tensor that a checkpoint of these numbers holds, with its shape."""
    found: dict[str, tuple[int, ...]] = {}
    for parameter in parameters(arch, 1):
        found |= {each.tensor: each.tensor_shape for each in parameter.slices}
    return found


def parameter_count(arch: Architecture) -> int:
    """Count the weights; layers are alike, so one is counted for all."""

    def size(*listed: Parameter) -> int:
        return sum(parameter.size for parameter in listed)

    outside = [embedding(arch), final_norm(arch)] + ([] if arch.tie_word_embeddings else [head(arch)])
    return size(*outside) + arch.num_hidden_layers * size(*layer_parameters(arch, 0, 1).values())


def ignored(arch: Architecture, name: str) -> bool:
    """Tell whether a tensor carries nothing of its own: a derived buffer, or the second copy of a tied embedding."""
    if name == HEAD:
        return arch.tie_word_embeddings
    return is_buffer(name) or any(fnmatch.fnmatchcase(name, pattern) for pattern in _BUFFERS)


def layer_parameters(arch: Architecture, layer: int, head_multiple: int) -> dict[str, Parameter]:
    """List one layer's weights by role, in the order they are used."""
    hidden, ffn, size = arch.hidden_size, arch.intermediate_size, arch.head_dim
    heads, kv_heads = arch.num_attention_heads, arch.num_key_value_heads
    padded = arch.padded_head(head_multiple)
    prefix = f"model.layers.{layer}."

    def padding(count: int, *, rotary: bool) -> HeadPadding | None:
        return None if padded == size else HeadPadding(count, size, padded, rotary)

    def parameter(role: str, kind: ParameterKind, *slices: RowSlice) -> tuple[str, Parameter]:
        suffix = "bias" if kind == "bias" else "weight"
        stem = role.removesuffix(".bias")
        return role, Parameter(f"{prefix}{stem}.{suffix}", kind, stacked(*slices), layer, role)

    def projection(tensor: str, rows: int, columns: int, pad_columns: HeadPadding | None = None) -> RowSlice:
        return RowSlice(f"{prefix}{tensor}.weight", (rows, columns), pad_columns=pad_columns)

    def norm(role: str, tensor: str, width: int, pad: HeadPadding | None = None) -> tuple[str, Parameter]:
        return parameter(
            role, "norm", RowSlice(f"{prefix}{tensor}.weight", (width,), pad_rows=pad, offset=arch.norm_offset)
        )

    qkv = [("q", heads, True), ("k", kv_heads, True), ("v", kv_heads, False)]
    listed = [
        norm("input_layernorm", "input_layernorm", hidden),
        parameter(
            "attn.qkv_proj",
            "linear",
            *(
                RowSlice(
                    f"{prefix}self_attn.{each}_proj.weight",
                    (count * size, hidden),
                    pad_rows=padding(count, rotary=rotary),
                )
                for each, count, rotary in qkv
            ),
        ),
    ]
    if arch.attention_bias or arch.qkv_bias:
        listed.append(
            parameter(
                "attn.qkv_proj.bias",
                "bias",
                *(
                    RowSlice(
                        f"{prefix}self_attn.{each}_proj.bias", (count * size,), pad_rows=padding(count, rotary=rotary)
                    )
                    for each, count, rotary in qkv
                ),
            )
        )
    if arch.qk_norm:
        listed += [norm(f"attn.{one}_norm", f"self_attn.{one}_norm", size, padding(1, rotary=True)) for one in "qk"]
    output = projection("self_attn.o_proj", hidden, heads * size, padding(heads, rotary=False))
    listed.append(parameter("attn.o_proj", "linear", output))
    if arch.attention_bias:
        listed.append(parameter("attn.o_proj.bias", "bias", RowSlice(f"{prefix}self_attn.o_proj.bias", (hidden,))))
    listed.append(norm("post_attention_layernorm", "post_attention_layernorm", hidden))
    for name, rows, columns in (("gate_proj", ffn, hidden), ("up_proj", ffn, hidden), ("down_proj", hidden, ffn)):
        listed.append(parameter(f"mlp.{name}", "linear", projection(f"mlp.{name}", rows, columns)))
        if arch.mlp_bias:
            listed.append(parameter(f"mlp.{name}.bias", "bias", RowSlice(f"{prefix}mlp.{name}.bias", (rows,))))
    return dict(listed)


def embedding(arch: Architecture) -> Parameter:
    """The token embedding."""
    rows = RowSlice(EMBEDDING, (arch.vocab_size, arch.hidden_size))
    return Parameter(EMBEDDING, "embedding", (rows,), None, "embed_tokens")


def final_norm(arch: Architecture) -> Parameter:
    """The norm before the output head."""
    rows = RowSlice(FINAL_NORM, (arch.hidden_size,), offset=arch.norm_offset)
    return Parameter(FINAL_NORM, "norm", (rows,), None, "norm")


def head(arch: Architecture) -> Parameter:
    """The output head; tied, it is the very embedding."""
    if arch.tie_word_embeddings:
        return embedding(arch)
    return Parameter(HEAD, "linear", (RowSlice(HEAD, (arch.vocab_size, arch.hidden_size)),), None, "lm_head")


def parameters(arch: Architecture, head_multiple: int) -> list[Parameter]:
    """List the weights of the graph in the order they are used, a tied one once."""
    listed = [embedding(arch)]
    for layer in range(arch.num_hidden_layers):
        listed += layer_parameters(arch, layer, head_multiple).values()
    listed.append(final_norm(arch))
    if not arch.tie_word_embeddings:
        listed.append(head(arch))
    return listed
