"""Which channels of a computation are rescaled, and what that means for the tensors of its checkpoint."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from zoo.calibration.links import fold_links
from zoo.calibration.program import Segment, Segments, cut
from zoo.contracts import FoldLink, Parameter, RowSlice, flat_shape
from zoo.errors import ZooError
from zoo.operations import Embedding, LayerNorm, Linear, Operation, Program, RmsNorm, Step, TokenIds, Value
from zoo.smoothing.arithmetic import supported
from zoo.sources.rows import positions


@dataclass(slots=True, eq=False)
class TensorUse:
    """What is done to a tensor, and what reads it."""

    columns: FoldLink | None = None
    """Its columns are multiplied by the scales of this link."""
    rows: FoldLink | None = None
    """Its rows are divided by the scales of this link."""
    row_slice: RowSlice | None = None
    """Where those rows lie in the link's source, or in its bias."""
    products: list[tuple[Linear, NDArray[np.intp], NDArray[np.intp] | None]] = field(default_factory=list)
    """The linears that multiply by it: in which of their outputs each row ends (-1 in none), and which of their inputs
    its columns read (None for all)."""


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """What is rescaled, and how far the tokens must be followed to know by how much."""

    steps: tuple[Step, ...]
    """The computation up to the last norm that is rescaled."""
    norms: dict[Value, FoldLink]
    """What is rescaled by what tokens excite, by the value whose channels it makes: norms; with ``by_inputs`` all."""
    tensors: dict[str, TensorUse]
    """The tensors that are changed or multiplied by."""
    derived: dict[str, tuple[int, ...]]
    """The tensors that no checkpoint has, by name, with their shapes: ones, before they are changed."""


def plan_smoothing(program: Program, fixed: Collection[str] = (), *, by_inputs: bool = False) -> Plan | None:
    """Choose what is rescaled: norms that feed linears alone, and what is multiplied into the input of one.

    Args:
        fixed: tensors that keep their values, since their stored levels are taken over.
        by_inputs: rescale what is multiplied into a linear's input by what tokens excite there too.

    Returns:
        None where the computation has no such norm, or operations that are not computed here.
    """
    if not program.generates:
        return None
    try:
        segments = cut(program)
    except ZooError:  # layers that hand on more than one value
        return None
    steps = [step for segment in _all(segments) for step in segment.steps]
    uses: dict[str, list[tuple[Parameter, RowSlice]]] = {}
    read_otherwise = set()
    for step in steps:
        for weight in step.operation.weights:
            for each in weight.slices:
                uses.setdefault(each.tensor, []).append((weight, each))
            if not _reads_rescaled(step.operation, weight):
                read_otherwise.add(weight.name)
    tensors = {name: TensorUse() for name in uses}
    norms: dict[Value, FoldLink] = {}
    makers = {
        step.operation.weight.name: step.output for step in steps if isinstance(step.operation, RmsNorm | LayerNorm)
    }
    inputs = {step.operation.weight.name: step.operation.x for step in steps if isinstance(step.operation, Linear)}
    for segment in _all(segments):
        for link in fold_links(segment):
            norm = makers.get(link.source.name)
            if norm is None and (link.source.kind != "linear" or not _one_to_one(link)):
                continue
            if not _foldable(link, uses, read_otherwise, fixed) or not _unmarked(link, tensors):
                continue
            _mark(link, tensors)
            for embedding in program.all(Embedding):
                if embedding.channels is not None and embedding.weight in link.consumers:
                    each = embedding.channels.slices[0]
                    tensors[each.tensor].rows, tensors[each.tensor].row_slice = link, each
            if norm is not None or by_inputs:
                norms[inputs[link.consumers[0].name] if norm is None else norm] = link
    if not norms:
        return None
    last = max(index for index, step in enumerate(steps) if step.output in norms)
    followed = tuple(steps[: last + 1])
    if not _followed(followed):
        return None
    for step in followed:
        if isinstance(step.operation, Linear):
            _multiplied(step.operation, tensors)
    scales = [embedding.channels for embedding in program.all(Embedding) if embedding.channels is not None]
    return Plan(followed, norms, tensors, {scale.name: scale.shape for scale in scales})


def _reads_rescaled(operation: Operation, weight: Parameter) -> bool:
    """Tell whether an operation computes the same when a weight's columns are rescaled with its inputs."""
    if isinstance(operation, Embedding):
        return operation.channels is not None
    return isinstance(operation, Linear) and weight is operation.weight


def _all(segments: Segments) -> list[Segment]:
    return [segments.before, *segments.layers, segments.after]


def _one_to_one(link: FoldLink) -> bool:
    return np.array_equal(link.rows, np.arange(len(link.rows)))


def _foldable(
    link: FoldLink,
    uses: dict[str, list[tuple[Parameter, RowSlice]]],
    read_otherwise: set[str],
    fixed: Collection[str],
) -> bool:
    """Tell whether the columns of the consumers' tensors, and the rows of the source's, are theirs to change."""
    consumers = {consumer.name for consumer in link.consumers}
    parts = [*link.consumers, link.source, *([link.bias] if link.bias is not None else [])]
    if consumers & read_otherwise or any(each.tensor in fixed for part in parts for each in part.slices):
        return False
    for consumer in link.consumers:
        for each in consumer.slices:
            if not each.same_values or each.pad_columns is not None:
                return False
            if any(weight.name not in consumers for weight, _ in uses[each.tensor]):
                return False
    sources = [link.source] if link.bias is None else [link.source, link.bias]
    plain = link.source.kind != "linear"
    return all(
        each.scale == 1 and not each.unit and (plain or not each.offset) and len(uses[each.tensor]) == 1
        for source in sources
        for each in source.slices
    )


def _unmarked(link: FoldLink, tensors: dict[str, TensorUse]) -> bool:
    columns = (tensors[each.tensor].columns for consumer in link.consumers for each in consumer.slices)
    rows = (tensors[each.tensor].rows for part in (link.source, link.bias) if part for each in part.slices)
    return all(link_at is None for link_at in (*columns, *rows))


def _mark(link: FoldLink, tensors: dict[str, TensorUse]) -> None:
    for consumer in link.consumers:
        for each in consumer.slices:
            tensors[each.tensor].columns = link
    for source in (link.source, link.bias):
        for each in source.slices if source is not None else ():
            tensors[each.tensor].rows, tensors[each.tensor].row_slice = link, each


def _followed(steps: Sequence[Step]) -> bool:
    """Tell whether every step up to the last norm can be computed with what is read once."""
    for step in steps:
        operation = step.operation
        if isinstance(operation, Linear):
            if not all(each.same_values for each in operation.weight.slices):
                return False
        elif isinstance(operation, Embedding):
            slices = operation.weight.slices
            if len(slices) != 1 or slices[0].rows is not None or not slices[0].untouched:
                return False
        elif not isinstance(operation, TokenIds) and not supported(operation):
            return False
    return True


def _multiplied(linear: Linear, tensors: dict[str, TensorUse]) -> None:
    by_tensor: dict[str, list[RowSlice]] = {}
    for each in linear.weight.slices:
        by_tensor.setdefault(each.tensor, []).append(each)
    for name, slices in by_tensor.items():
        ends = np.full(flat_shape(slices[0].tensor_shape)[0], -1)
        for each in slices:
            rows, places = rows_and_places(each)
            ends[rows] = places
        pad = slices[0].pad_columns
        tensors[name].products.append((linear, ends, None if pad is None else positions(pad)))


def rows_and_places(each: RowSlice) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Say which rows of a tensor a slice takes, and which of its parameter's rows they are."""
    rows = np.arange(each.count) if each.rows is None else np.asarray(each.rows)
    within = np.arange(each.count) if each.pad_rows is None else positions(each.pad_rows)
    return rows, each.at + within * each.stride
