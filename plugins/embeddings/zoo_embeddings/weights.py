"""Which tensors an encoder's checkpoint holds, and how they become the weights of the graph.

Names: transformers, ``modeling_bert.py`` and ``modeling_roberta.py``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal

from zoo import Architecture, Parameter, RowSlice, stacked
from zoo_embeddings.config import options_of

Kind = Literal["embedding", "linear", "bias", "norm"]

# Heads of other tasks, which stay beside an encoder that was trained with them, and derived buffers.
_UNUSED = re.compile(r"((bert|roberta)\.)?(pooler\.|embeddings\.position_ids$)|cls\.|lm_head\.")


class EncoderWeights:
    """The weights of one encoder, by role."""

    def __init__(self, arch: Architecture) -> None:
        self._arch, self.options = arch, options_of(arch)
        self._prefix = f"{self.options.prefix}."

    def every(self) -> Iterator[Parameter]:
        """List the weights in the order they are used."""
        yield from self.embeddings().values()
        for index in range(self._arch.num_hidden_layers):
            yield from self.layer(index).values()
        yield from self.head().values()

    def embeddings(self) -> dict[str, Parameter]:
        """The tables of tokens, positions and types, and the norm of their sum."""
        hidden, options = self._arch.hidden_size, self.options
        positions = self._arch.max_position_embeddings + options.first_position
        sizes = {"word": self._arch.vocab_size, "position": positions, "token_type": options.type_vocab_size}
        tables = [
            self._weight(f"embeddings.{name}_embeddings", f"{name}_embeddings", "embedding", (rows, hidden))
            for name, rows in sizes.items()
        ]
        return _by_role(*tables, *self._norm("embeddings.LayerNorm", "norm"))

    def layer(self, index: int) -> dict[str, Parameter]:
        """One layer: attention, the norm after it, the MLP, the norm after that."""
        hidden, wide, at = self._arch.hidden_size, self._arch.intermediate_size, f"encoder.layer.{index}."
        width = self._arch.num_attention_heads * self._arch.head_dim
        qkv = [f"{at}attention.self.{name}" for name in ("query", "key", "value")]
        return _by_role(
            self._stacked(f"{at}attention.qkv", "attn.qkv", "linear", qkv, (width, hidden), index),
            self._stacked(f"{at}attention.qkv", "attn.qkv.bias", "bias", qkv, (width,), index),
            *self._linear(f"{at}attention.output.dense", "attn.out", hidden, width, index),
            *self._norm(f"{at}attention.output.LayerNorm", "attn.norm", index),
            *self._linear(f"{at}intermediate.dense", "mlp.up", wide, hidden, index),
            *self._linear(f"{at}output.dense", "mlp.down", hidden, wide, index),
            *self._norm(f"{at}output.LayerNorm", "mlp.norm", index),
        )

    def head(self) -> dict[str, Parameter]:
        """The dense layer over a text's first token and the classifier over that; nothing without labels."""
        hidden, labels = self._arch.hidden_size, self.options.labels
        if not labels:
            return {}
        bert = self.options.prefix == "bert"
        dense, out = ("bert.pooler.dense", "classifier") if bert else ("classifier.dense", "classifier.out_proj")
        return _by_role(
            *self._linear(dense, "dense", hidden, hidden, prefix=""),
            *self._linear(out, "classifier", labels, hidden, prefix=""),
        )

    def _linear(
        self, name: str, role: str, rows: int, columns: int, layer: int | None = None, prefix: str | None = None
    ) -> Iterator[Parameter]:
        yield self._weight(name, role, "linear", (rows, columns), layer, prefix)
        yield self._weight(name, f"{role}.bias", "bias", (rows,), layer, prefix)

    def _norm(self, name: str, role: str, layer: int | None = None) -> Iterator[Parameter]:
        yield self._weight(name, role, "norm", (self._arch.hidden_size,), layer)
        yield self._weight(name, f"{role}.bias", "bias", (self._arch.hidden_size,), layer)

    def _weight(
        self,
        name: str,
        role: str,
        kind: Kind,
        shape: tuple[int, ...],
        layer: int | None = None,
        prefix: str | None = None,
    ) -> Parameter:
        full = f"{self._prefix if prefix is None else prefix}{name}.{'bias' if kind == 'bias' else 'weight'}"
        return Parameter(full, kind, (RowSlice(full, shape),), layer, role)

    def _stacked(
        self, name: str, role: str, kind: Kind, parts: list[str], shape: tuple[int, ...], layer: int
    ) -> Parameter:
        suffix = "bias" if kind == "bias" else "weight"
        slices = stacked(*(RowSlice(f"{self._prefix}{part}.{suffix}", shape) for part in parts))
        return Parameter(f"{self._prefix}{name}.{suffix}", kind, slices, layer, role)


def unused(name: str) -> bool:
    """Tell whether a tensor is of another task's head, or a buffer."""
    return _UNUSED.match(name) is not None


def _by_role(*weights: Parameter) -> dict[str, Parameter]:
    return {weight.role: weight for weight in weights}
