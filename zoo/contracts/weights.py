"""The weights of a graph: which rows of which tensors they are made of, and where they are stored."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

from zoo.contracts.encoding import RowAxis


def flat_shape(shape: tuple[int, ...]) -> tuple[int, int]:
    """See a tensor as (rows, columns): a row runs along the last axis, a vector's rows are its single values."""
    if len(shape) < 2:
        return math.prod(shape), 1
    return math.prod(shape[:-1]), shape[-1]


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
class RowSlice:
    """Rows of one checkpoint tensor, and where they lie in a parameter.

    Row ``i`` of those taken lies in row ``at + i * stride`` of the parameter. A tensor of more than two axes counts as
    its flattened rows. A value becomes ``value * scale + offset``, in float32, before anything else is done with it.
    """

    tensor: str
    tensor_shape: tuple[int, ...]
    """The shape that the checkpoint must have the whole tensor in."""
    rows: range | tuple[int, ...] | None = None
    """Which rows are taken, in order: a range, or a gather; None takes all."""
    at: int = 0
    """The parameter's row that the first of them lies in."""
    stride: int = 1
    """How far apart they lie in the parameter."""
    pad_rows: HeadPadding | None = None
    """Widen heads along the rows (q, k, v projections and their biases)."""
    pad_columns: HeadPadding | None = None
    """Widen heads along the columns (the attention's output projection)."""
    offset: float = 0.0
    scale: float = 1.0
    unit: bool = False
    """Divide each row by its length instead."""
    transposed: bool = False
    """Swap the axes of the rows that are taken: each of their columns is a row of the parameter."""

    @property
    def count(self) -> int:
        """Rows of the tensor that are taken."""
        return flat_shape(self.tensor_shape)[0] if self.rows is None else len(self.rows)

    @property
    def size(self) -> int:
        """Values that are taken, without padding."""
        return math.prod(self.tensor_shape) if self.rows is None else self.count * flat_shape(self.tensor_shape)[1]

    @property
    def stored_rows(self) -> int:
        """Rows of the parameter, after padding."""
        if self.transposed:
            return flat_shape(self.tensor_shape)[1]
        return self.count if self.pad_rows is None else self.pad_rows.heads * self.pad_rows.padded

    @property
    def columns(self) -> int:
        """Values of a row after padding; 1 of a vector."""
        if self.pad_columns is not None:
            return self.pad_columns.heads * self.pad_columns.padded
        if self.transposed:
            return self.count
        return flat_shape(self.tensor_shape)[1]

    @property
    def places(self) -> range:
        """The parameter's rows that it fills, padding included."""
        return range(self.at, self.at + self.stored_rows * self.stride, self.stride)

    @property
    def same_values(self) -> bool:
        """Whether the parameter holds the very values of the tensor: not scaled, shifted or divided by lengths."""
        return not self.offset and self.scale == 1 and not self.unit

    @property
    def untouched(self) -> bool:
        """Whether the rows lie in the parameter as they are read: next to each other, no padding between."""
        return not self.transposed and self.stride == 1 and self.pad_rows is None and self.pad_columns is None


def stacked(*slices: RowSlice, at: int = 0) -> tuple[RowSlice, ...]:
    """Lay slices one behind the other, from row ``at`` on."""
    laid = []
    for row_slice in slices:
        there = row_slice.at == at and row_slice.stride == 1
        laid.append(row_slice if there else replace(row_slice, at=at, stride=1))
        at += row_slice.stored_rows
    return tuple(laid)


def interleaved(*slices: RowSlice, at: int = 0) -> tuple[RowSlice, ...]:
    """Lay slices of as many rows each in turn, from row ``at`` on: the first row of each, the second of each."""
    return tuple(replace(row_slice, at=at + index, stride=len(slices)) for index, row_slice in enumerate(slices))


ParameterKind = Literal["linear", "embedding", "norm", "bias", "router"]
"""A router is a linear that stays in float32: rounded, it would choose other experts."""


@dataclass(frozen=True)
class Parameter:
    """A weight of the graph: rows of one or several checkpoint tensors, each of its own rows filled once."""

    name: str
    """Its name in the graph, for example ``model.layers.0.attn.qkv_proj.weight``."""
    kind: ParameterKind
    slices: tuple[RowSlice, ...]
    layer: int | None = None
    """The decoder layer it belongs to; None outside the layers."""
    role: str = ""
    """Its role without the layer number, for example ``attn.qkv_proj``, ``embed_tokens``, ``lm_head``."""
    experts: int | None = None
    """Matrices that lie one behind the other, as many rows each: a leading axis of the shape. None is a single one."""
    beside: int | None = None
    """Columns of another weight that a kernel takes together with this one, in blocks of the same size."""
    derived: bool = False
    """The build makes its tensor; the checkpoint has none."""
    transposed: bool = False
    """Of what an architecture says of transformers' weights: each matrix has its axes swapped there."""

    @cached_property
    def rows(self) -> int:
        """Rows of all experts together."""
        return max(row_slice.places[-1] + 1 if row_slice.places else 0 for row_slice in self.slices)

    @property
    def columns(self) -> int:
        """Values of a row; 1 of a vector."""
        return self.slices[0].columns

    @cached_property
    def size(self) -> int:
        """Count the model's own weights in it, without padding."""
        return 0 if self.derived else sum(row_slice.size for row_slice in self.slices)

    @property
    def shape(self) -> tuple[int, ...]:
        """(out_features, in_features) of a linear, (vocab, hidden) of an embedding, (size,) of a norm or a bias.

        With experts, they are the first axis.
        """
        vector = len(self.slices[0].tensor_shape) < 2
        if self.experts is None:
            return (self.rows,) if vector else (self.rows, self.columns)
        each = self.rows // self.experts
        return (self.experts, each) if vector else (self.experts, each, self.columns)


@dataclass(frozen=True, slots=True)
class StoredArray:
    """One array of a stored parameter, placed in a data file."""

    parameter: Parameter
    array: str
    """Its name in the target's encoding, for example ``weight``, ``scales`` or ``zero_points``."""
    dtype: str
    shape: tuple[int, ...]
    offset: int
    """Where it begins, counted from the end of the file's header."""
    nbytes: int
    file: str
    """The data file, by its name in the package."""
    rows: RowAxis = "first"
