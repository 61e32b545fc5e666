"""Which tensors a decoder's checkpoint holds, and how they become the weights of the graph."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator

from zoo.contracts import HeadPadding, Parameter, ParameterKind, RowSlice, stacked
from zoo.declarations.architecture import Architecture
from zoo.decoder import experts, latent
from zoo.decoder.layout import EMBEDDING, FINAL_NORM, HEAD, inside, outside
from zoo.sources.buffers import is_buffer

# Buffers that older conversions saved: computed from the numbers, never learned.
_BUFFERS = ("*.attn.masked_bias", "*.self_attn.bias")


def tensors(arch: Architecture) -> dict[str, tuple[int, ...]]:
    """Name every tensor that a checkpoint of these numbers holds, with its shape."""
    shapes: dict[str, tuple[int, ...]] = {}
    for parameter in parameters(arch, 1):
        shapes |= {each.tensor: each.tensor_shape for each in parameter.slices}
    return shapes


def parameter_count(arch: Architecture) -> int:
    """Count the weights; layers are alike but for their experts, so one of each kind is counted for all."""

    def size(*listed: Parameter) -> int:
        return sum(parameter.size for parameter in listed)

    outside = [embedding(arch), *final_norm(arch).values()] + ([] if arch.tie_word_embeddings else [head(arch)])
    plain = min(arch.first_k_dense_replace, arch.num_hidden_layers)
    layers = [(count, layer) for count, layer in ((plain, 0), (arch.num_hidden_layers - plain, plain)) if count]
    return size(*outside) + sum(count * size(*layer_parameters(arch, layer, 1).values()) for count, layer in layers)


def ignored(arch: Architecture, name: str) -> bool:
    """Tell whether a tensor carries nothing of its own: a derived buffer, or the second copy of a tied embedding."""
    if name == f"{outside(arch, HEAD)}.weight":
        return arch.tie_word_embeddings
    return is_buffer(name) or any(fnmatch.fnmatchcase(name, pattern) for pattern in _BUFFERS)


def layer_parameters(arch: Architecture, layer: int, head_multiple: int) -> dict[str, Parameter]:
    """List one layer's weights by role, in the order they are used."""
    return {parameter.role: parameter for parameter in _Layer(arch, layer, head_multiple).parameters()}


class _Layer:
    """One layer's weights in the making."""

    def __init__(self, arch: Architecture, layer: int, head_multiple: int) -> None:
        self._arch, self._layer = arch, layer
        self._prefix = f"model.layers.{layer}."
        self._padded, self._head_multiple = arch.padded_head(head_multiple), head_multiple

    def parameters(self) -> Iterator[Parameter]:
        before, after = self._arch.norms_before, self._arch.norms_after
        if before:
            yield from self._norm("input_layernorm")
        yield from self._attention()
        if after:
            yield from self._norm("post_attention_layernorm")
        if before and not self._arch.use_parallel_residual:
            yield from self._norm("pre_feedforward_layernorm" if after else "post_attention_layernorm")
        yield from experts.parameters(self._arch, self._layer) if self._arch.is_sparse(self._layer) else self._mlp()
        if after:
            yield from self._norm("post_feedforward_layernorm")

    def _attention(self) -> Iterator[Parameter]:
        if self._arch.kv_lora_rank is not None:
            yield from latent.parameters(self._arch, self._layer, self._head_multiple)
            return
        arch, size = self._arch, self._arch.head_dim
        heads, kv_heads = arch.num_attention_heads, arch.num_key_value_heads
        qkv = [("q", heads, arch.turns_halves), ("k", kv_heads, arch.turns_halves), ("v", kv_heads, False)]
        weights = [
            self._rows(f"self_attn.{each}_proj.weight", (count * size, arch.hidden_size), self._pad(count, halves))
            for each, count, halves in qkv
        ]
        yield self._parameter("attn.qkv_proj", "linear", *weights)
        if arch.attention_bias or arch.qkv_bias:
            biases = [
                self._rows(f"self_attn.{each}_proj.bias", (count * size,), self._pad(count, halves))
                for each, count, halves in qkv
            ]
            yield self._parameter("attn.qkv_proj.bias", "bias", *biases)
        if arch.qk_norm:
            for each, count, halves in qkv[:2]:
                yield self._parameter(f"attn.{each}_norm", "norm", *self._head_norms(each, count, halves))
        if arch.attention_sinks:
            yield self._parameter("attn.sinks", "bias", RowSlice(f"{self._prefix}self_attn.sinks", (heads,)))
        output = self._rows(
            "self_attn.o_proj.weight", (arch.hidden_size, heads * size), pad_columns=self._pad(heads, False)
        )
        yield self._parameter("attn.o_proj", "linear", output)
        if arch.attention_bias:
            yield self._parameter("attn.o_proj.bias", "bias", self._rows("self_attn.o_proj.bias", (arch.hidden_size,)))

    def _head_norms(self, each: str, count: int, halves: bool) -> Iterator[RowSlice]:
        size, over, offset = self._arch.head_dim, self._arch.qk_norm_over, self._arch.norm_offset
        if over == "each head":
            for head in range(count):
                name = f"self_attn.{each}_layernorm.norms.{head}.weight"
                yield self._rows(name, (size,), self._pad(1, halves), offset=offset)
        else:
            count = count if over == "all heads" else 1
            name = f"self_attn.{each}_norm.weight"
            yield self._rows(name, (count * size,), self._pad(count, halves), offset=offset)

    def _mlp(self) -> Iterator[Parameter]:
        hidden, ffn = self._arch.hidden_size, self._arch.intermediate_size
        gate = [("gate_proj", ffn, hidden)] if self._arch.gated_mlp else []
        for name, rows, columns in [*gate, ("up_proj", ffn, hidden), ("down_proj", hidden, ffn)]:
            yield self._parameter(f"mlp.{name}", "linear", self._rows(f"mlp.{name}.weight", (rows, columns)))
            if self._arch.mlp_bias:
                yield self._parameter(f"mlp.{name}.bias", "bias", self._rows(f"mlp.{name}.bias", (rows,)))

    def _norm(self, role: str) -> Iterator[Parameter]:
        width = (self._arch.hidden_size,)
        yield self._parameter(role, "norm", self._rows(f"{role}.weight", width, offset=self._arch.norm_offset))
        if self._arch.norm_bias:
            yield self._parameter(f"{role}.bias", "bias", self._rows(f"{role}.bias", width))

    def _pad(self, count: int, halves: bool) -> HeadPadding | None:
        size = self._arch.head_dim
        return None if self._padded == size else HeadPadding(count, size, self._padded, halves)

    def _rows(
        self,
        tensor: str,
        shape: tuple[int, ...],
        pad_rows: HeadPadding | None = None,
        pad_columns: HeadPadding | None = None,
        offset: float = 0.0,
    ) -> RowSlice:
        module, _, suffix = tensor.rpartition(".")
        name, rows, count = inside(self._arch, self._layer, module)
        whole = shape if count is None else (count, *shape[1:])
        return RowSlice(f"{name}.{suffix}", whole, rows, pad_rows=pad_rows, pad_columns=pad_columns, offset=offset)

    def _parameter(self, role: str, kind: ParameterKind, *slices: RowSlice) -> Parameter:
        suffix = "bias" if kind == "bias" else "weight"
        name = f"{self._prefix}{role.removesuffix('.bias')}.{suffix}"
        return Parameter(name, kind, stacked(*slices), self._layer, role)


def embedding(arch: Architecture) -> Parameter:
    """The token embedding."""
    return _alone(arch, EMBEDDING, "embedding", (arch.vocab_size, arch.hidden_size))


def final_norm(arch: Architecture) -> dict[str, Parameter]:
    """The norm before the output head, by role: its weight, and its bias where it has one."""
    width = (arch.hidden_size,)
    weights = {"norm": _alone(arch, FINAL_NORM, "norm", width, offset=arch.norm_offset)}
    if arch.norm_bias:
        weights["norm.bias"] = _alone(arch, FINAL_NORM, "bias", width)
    return weights


def head(arch: Architecture) -> Parameter:
    """The output head; tied, it is the very embedding."""
    if arch.tie_word_embeddings:
        return embedding(arch)
    return _alone(arch, HEAD, "linear", (arch.vocab_size, arch.hidden_size), unit=arch.normalized_head)


def _alone(
    arch: Architecture,
    module: str,
    kind: ParameterKind,
    shape: tuple[int, ...],
    *,
    offset: float = 0.0,
    unit: bool = False,
) -> Parameter:
    """Take the whole tensor of a module outside the layers."""
    suffix = "bias" if kind == "bias" else "weight"
    rows = RowSlice(f"{outside(arch, module)}.{suffix}", shape, offset=offset, unit=unit)
    role = module.removeprefix("model.")
    return Parameter(f"{module}.{suffix}", kind, (rows,), None, f"{role}.bias" if kind == "bias" else role)


def parameters(arch: Architecture, head_multiple: int) -> list[Parameter]:
    """List the weights of the graph in the order they are used, a tied one once."""
    listed = [embedding(arch)]
    for layer in range(arch.num_hidden_layers):
        listed += layer_parameters(arch, layer, head_multiple).values()
    listed += final_norm(arch).values()
    if not arch.tie_word_embeddings:
        listed.append(head(arch))
    return listed
