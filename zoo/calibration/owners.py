"""Which weights of the computation a stored parameter is made of, and its values in theirs.

A target that stores the graph's weights stores each as it is computed with. One that stores the checkpoint's own
tensors stores rows of one or several of them, without what the graph did to them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from zoo.contracts import LayerActivations, Parameter, RowSlice, stacked
from zoo.sources.rows import positions

Weights = Mapping[str, NDArray[np.float32]]


class Owners:
    """The weights of the computation by the parameters that are stored.

    Args:
        graph: the weights of the computation.
        whole: they are what is stored; without, the checkpoint's tensors are.
    """

    def __init__(self, graph: Sequence[Parameter], *, whole: bool) -> None:
        self._whole = whole
        self._graph = {parameter.name: parameter for parameter in graph}
        self._slices: dict[str, list[tuple[Parameter, RowSlice]]] = {}
        for parameter in graph if not whole else ():
            for each in parameter.slices:
                self._slices.setdefault(each.tensor, []).append((parameter, each))

    def of(self, stored: Parameter) -> list[Parameter]:
        """List the weights that a stored parameter has rows of, in the order of use."""
        if self._whole:
            return [self._graph[stored.name]]
        return list({owner.name: owner for owner, _ in self._parts(stored)}.values())

    def _parts(self, stored: Parameter) -> list[tuple[Parameter, RowSlice]]:
        """List the weights that the tensors of a stored parameter have rows in, and which rows."""
        return [part for each in stored.slices for part in self._slices[each.tensor]]

    def take(self, stored: Parameter, weights: Weights) -> NDArray[np.float32]:
        """The values of a stored parameter as the weights are now, (rows, columns); those themselves if it is one."""
        if self._whole:
            return weights[stored.name].reshape(stored.rows, -1)
        if (upright := _upright(stored)) is not stored:
            return _swapped(self.take(upright, weights), len(stored.slices))
        rows = _stored_rows(stored)
        values = np.empty((stored.rows, stored.columns), np.float32)
        for owner, each in self._parts(stored):
            here, there = _shared(rows, each)
            part = _part(weights[owner.name], owner, each)[there]
            if each.offset or each.scale != 1:
                part = (part - np.float32(each.offset)) / np.float32(each.scale)
            values[here] = part
        return values

    def exact(self, stored: Parameter) -> bool:
        """Tell whether ``take`` gives back, to the bit, what the checkpoint holds."""
        return self._whole or all(each.same_values for _, each in self._parts(stored))

    def give(self, stored: Parameter, values: NDArray[np.float32], weights: Weights) -> None:
        """Put what was stored back into the weights; nothing is left to do where it was changed in place."""
        if self._whole:
            return
        if (upright := _upright(stored)) is not stored:
            self.give(upright, _swapped(values, len(stored.slices)), weights)
            return
        stored_rows = _stored_rows(stored)
        for owner, each in self._parts(stored):
            here, there = _shared(stored_rows, each)
            rows = values[here]
            if each.offset or each.scale != 1:
                rows = rows * np.float32(each.scale) + np.float32(each.offset)
            matrix = weights[owner.name].reshape(owner.rows, -1)
            matrix[_places(each)[there][:, None], _columns(each)] = rows


class OwnersActivations:
    """What a layer tells of a stored parameter's inputs: what it tells of its owner's (``LayerActivations``)."""

    def __init__(self, layer: LayerActivations, owner: Parameter) -> None:
        self.device, self.tokens = layer.device, layer.tokens
        self._layer, self._owner = layer, owner

    def hessian(self, parameter: Parameter) -> NDArray[np.float32]:
        """Σ x xᵀ over the calibration tokens of the owner's inputs, without those that are padding."""
        return self._layer.hessian(self._owner) if parameter.columns == self._owner.columns else self._narrow

    @cached_property
    def _narrow(self) -> NDArray[np.float32]:
        columns = _columns(self._owner.slices[0])
        return self._layer.hessian(self._owner)[np.ix_(columns, columns)]


def _part(weight: NDArray[np.float32], owner: Parameter, each: RowSlice) -> NDArray[np.float32]:
    found: NDArray[np.float32] = weight.reshape(owner.rows, -1)[_places(each)[:, None], _columns(each)]
    return found


def _upright(stored: Parameter) -> Parameter:
    """A stored parameter without swapped axes: the same rows of its tensor, one matrix behind the other."""
    if not stored.slices[0].transposed:
        return stored
    return replace(stored, slices=stacked(*(replace(each, transposed=False) for each in stored.slices)), experts=None)


def _swapped(values: NDArray[np.float32], count: int) -> NDArray[np.float32]:
    """Swap the axes of so many matrices that lie one behind the other."""
    matrices = values.reshape(count, -1, values.shape[1])
    return np.ascontiguousarray(matrices.swapaxes(1, 2)).reshape(-1, matrices.shape[1])


def _stored_rows(stored: Parameter) -> NDArray[np.intp]:
    """The row of its tensor that each row of a stored parameter is."""
    rows = np.empty(stored.rows, np.intp)
    for each in stored.slices:
        rows[_places(each)] = _rows(each)
    return rows


def _shared(rows: NDArray[np.intp], each: RowSlice) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Where rows of a tensor are that a slice takes too: among ``rows``, and among those of the slice."""
    _, here, there = np.intersect1d(rows, _rows(each), assume_unique=True, return_indices=True)
    return here, there


def _rows(each: RowSlice) -> NDArray[np.intp]:
    """The tensor's rows that a slice takes."""
    return np.arange(each.count) if each.rows is None else np.asarray(each.rows)


def _places(each: RowSlice) -> NDArray[np.intp]:
    """Where they lie in the weight."""
    within = np.arange(each.count) if each.pad_rows is None else positions(each.pad_rows)
    return each.at + within * each.stride


def _columns(each: RowSlice) -> NDArray[np.intp]:
    return np.arange(each.columns) if each.pad_columns is None else positions(each.pad_columns)
