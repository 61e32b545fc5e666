"""The accounting of a build: every row of every tensor is used once, and every row of every parameter filled once."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence

from zoo.contracts import Checkpoint, Parameter, RowSlice, TensorInfo, flat_shape
from zoo.declarations.dtypes import READABLE
from zoo.errors import ZooError
from zoo.operations import Program
from zoo.package.layout import Layout
from zoo.sources.rename import naming_hint


def account(layout: Layout, checkpoint: Checkpoint | None) -> None:
    """Check that the checkpoint holds every tensor that the build reads, in its shape, and none that nobody reads.

    Raises:
        ZooError: a tensor is missing, unused, of another shape or of a type that is not read; or the architecture uses
            rows twice or never.
    """
    if layout.architecture is None:
        return
    if checkpoint is None:
        raise ZooError(f"{layout.recipe.model}: its weights are not on this machine; fetch them, or pass --weights")
    arch, found = layout.recipe.architecture, checkpoint.tensors
    wanted = layout.architecture.tensors(arch)
    for name, shape in wanted.items():
        info = found.get(name)
        if info is None:
            raise ZooError(
                f"{checkpoint.name}: tensor {name!r} of shape {list(shape)} is missing{_instead(name, found)}"
            )
        if info.shape != shape:
            raise ZooError(
                f"{checkpoint.name}/{info.file}: tensor {name!r} has shape {list(info.shape)}, "
                f"but the architecture's numbers make it {list(shape)}"
            )
        if info.dtype not in READABLE:
            raise ZooError(
                f"{checkpoint.name}/{info.file}: tensor {name!r} is {info.dtype}; "
                f"only {', '.join(READABLE)} are read, already quantized weights are not"
            )
    unused = [name for name in found if name not in wanted and not layout.architecture.ignored(arch, name)]
    if unused:
        more = f" (and {len(unused) - 1} more)" if len(unused) > 1 else ""
        raise ZooError(
            f"{checkpoint.name}/{found[unused[0]].file}: tensor {unused[0]!r} is unused in the architecture"
            f"{more}; the model computes something that this build would lose, unless --allow-unused "
            f"{_pattern(unused[0], arch.num_hidden_layers)!r} leaves it out"
        )
    check_rows(
        f"architecture {arch.type!r}", [parameter for parameter in layout.graph if not parameter.derived], wanted
    )
    if layout.target.operations is not None and layout.program is not None:
        _account_weights(layout.program, layout)


def _account_weights(program: Program, layout: Layout) -> None:
    """Check that the computation uses the weights that are stored, and all of them."""
    kind, stored = layout.recipe.architecture.type, {parameter.name for parameter in layout.graph}
    used = {weight.name: step.name for step in program.steps for weight in step.operation.weights}
    for name in (name for name in used if name not in stored):
        raise ZooError(
            f"architecture {kind!r}: {used[name]} uses {name!r}, which its parameters() does not list; it is defective"
        )
    for name in sorted(stored - used.keys()):
        raise ZooError(f"architecture {kind!r}: its forward() uses {name!r} nowhere; it is defective")


def check_rows(who: str, parameters: Sequence[Parameter], tensors: Mapping[str, tuple[int, ...]]) -> None:
    """Check that the parameters use every row of every tensor once, and fill each of their own once.

    Args:
        who: what made the parameters, for messages.
        tensors: the tensors that there are, with their shapes.

    Raises:
        ZooError: naming the tensor, or the parameter, and the rows.
    """
    used: dict[str, list[RowSlice]] = {}
    for parameter in parameters:
        _check_filled(who, parameter)
        for row_slice in parameter.slices:
            used.setdefault(row_slice.tensor, []).append(row_slice)
    odd = sorted(used.keys() ^ tensors.keys()) or sorted(
        name for name in used if any(row_slice.tensor_shape != tensors[name] for row_slice in used[name])
    )
    if odd:
        raise ZooError(f"{who} contradicts itself about tensor {odd[0]!r}; it is defective")
    for name, slices in used.items():
        count = flat_shape(tensors[name])[0]
        if len(slices) == 1 and slices[0].rows in (None, range(count)):
            continue
        counted = _count(count, (range(count) if each.rows is None else each.rows for each in slices))
        if counted is None:
            raise ZooError(f"{who} uses rows of tensor {name!r} that it does not have ({count} rows); it is defective")
        if problem := _problem(counted):
            raise ZooError(f"{who} uses {problem[0]} of tensor {name!r} {problem[1]}; it is defective")


def _check_filled(who: str, parameter: Parameter) -> None:
    """Check that the slices of a parameter fill each of its rows once, in rows of one length."""
    at = 0
    for row_slice in parameter.slices:
        padding = row_slice.pad_rows
        if padding is not None and padding.heads * padding.size != row_slice.count:
            raise ZooError(
                f"{who} widens {padding.heads} heads of {padding.size} in {parameter.name}, "
                f"whose slice of {row_slice.tensor!r} has {row_slice.count} rows; it is defective"
            )
        if row_slice.columns != parameter.columns:
            raise ZooError(
                f"{who} puts rows of {row_slice.columns} and of {parameter.columns} values in {parameter.name}; "
                "it is defective"
            )
        # Most parameters are slices one behind the other.
        at = row_slice.at + row_slice.stored_rows if row_slice.stride == 1 and row_slice.at == at else -1
    rows = parameter.rows
    if at != rows:
        counted = _count(rows, (row_slice.places for row_slice in parameter.slices))
        if counted is None:
            raise ZooError(f"{who} places rows before the first of {parameter.name}; it is defective")
        if problem := _problem(counted):
            raise ZooError(f"{who} fills {problem[0]} of {parameter.name} {problem[1]}; it is defective")
    if parameter.experts is not None and (parameter.experts < 1 or rows % parameter.experts):
        raise ZooError(
            f"{who}: the {rows} rows of {parameter.name} do not divide among {parameter.experts} experts; "
            "it is defective"
        )


def _count(rows: int, taken: Iterable[Sequence[int]]) -> bytearray | None:
    """Count how often each row is taken, 2 for more than once; None where one is not among them."""
    counted = bytearray(rows)
    for places in taken:
        if isinstance(places, range) and places.step == 1 and places.start >= 0 and places.stop <= rows:
            span = slice(places.start, max(places.start, places.stop))
            new = 2 if any(counted[span]) else 1
            if new == 1:
                counted[span] = b"\1" * (span.stop - span.start)
                continue
        for row in places:
            if not 0 <= row < rows:
                return None
            counted[row] = min(counted[row] + 1, 2)
    return counted


def _problem(counted: bytearray) -> tuple[str, str] | None:
    """Describe the first rows that are not taken once: (which, how often)."""
    for row, times in enumerate(counted):
        if times != 1:
            last = row
            while last + 1 < len(counted) and counted[last + 1] == times:
                last += 1
            return f"row {row}" if last == row else f"rows {row} to {last}", "twice" if times else "never"
    return None


def _pattern(name: str, layers: int) -> str:
    """Write the pattern of a tensor and its like: all of a layer too many, or the same one of every layer."""
    layer = re.match(r"(.*\blayers)\.(\d+)\.(.*)", name)
    if layer is None:
        return name
    return f"{layer[1]}.{layer[2]}.*" if int(layer[2]) >= layers else f"{layer[1]}.*.{layer[3]}"


def _instead(name: str, found: Mapping[str, TensorInfo]) -> str:
    if hint := naming_hint(name, found):
        return f"; {hint}"
    near = difflib.get_close_matches(name, list(found)[:5000], n=1, cutoff=0.8)
    return f"; the nearest there is {near[0]!r}" if near else ""
