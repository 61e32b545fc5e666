"""The weights of a graph: what they are made of, and where they are stored."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    pass


@dataclass(frozen=True, slots=True)
class HeadPadding:
    """Widen every head of a projection with zeros, so that a kernel that wants rounder heads computes the same.

    ``size`` values a head become ``padded``. With ``rotary``, the two halves that rotary embedding turns against each
    other are moved to the halves of the wider head: value i of the second half goes to ``padded / 2 + i``.
    """

    heads: int
    size: int
    padded: int
    rotary: bool


@dataclass(frozen=True, slots=True)
class Part:
    """One checkpoint tensor inside a parameter."""

    tensor: str
    shape: tuple[int, ...]
    """The shape that the checkpoint must have it in."""
    pad_rows: HeadPadding | None = None
    """Widen heads along the first axis (q, k, v projections and their biases)."""
    pad_columns: HeadPadding | None = None
    """Widen heads along the last axis (the attention's output projection)."""
    offset: float = 0.0
    """Added to every value in float32 before anything else is done with it."""

    @property
    def stored_shape(self) -> tuple[int, ...]:
        """The shape after padding."""
        shape = list(self.shape)
        if self.pad_rows is not None:
            shape[0] = self.pad_rows.heads * self.pad_rows.padded
        if self.pad_columns is not None:
            shape[-1] = self.pad_columns.heads * self.pad_columns.padded
        return tuple(shape)


ParameterKind = Literal["linear", "embedding", "norm", "bias"]


@dataclass(frozen=True, slots=True)
class Parameter:
    """A weight of the graph: one or several checkpoint tensors stacked along the first axis."""

    name: str
    """Its name in the graph, for example ``model.layers.0.attn.qkv_proj.weight``."""
    kind: ParameterKind
    parts: tuple[Part, ...]
    layer: int | None = None
    """The decoder layer it belongs to; None outside the layers."""
    role: str = ""
    """Its role without the layer number, for example ``attn.qkv_proj``, ``embed_tokens``, ``lm_head``."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(out_features, in_features) of a linear, (vocab, hidden) of an embedding, (size,) of a norm or a bias."""
        rows = sum(part.stored_shape[0] for part in self.parts)
        return (rows, *self.parts[0].stored_shape[1:])


@dataclass(frozen=True, slots=True)
class StoredArray:
    """One array of a stored parameter, placed in the data file."""

    parameter: Parameter
    array: str
    """``weight``, ``scales`` or ``zero_points``."""
    dtype: str
    shape: tuple[int, ...]
    offset: int
    nbytes: int
