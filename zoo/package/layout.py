"""What a build writes where: the parameters of a recipe, how each is stored, and its place in the data file."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from zoo.contracts import ArchitecturePart, Checkpoint, Parameter, Part, Quantizer, StoredArray, Target, TensorInfo
from zoo.declarations.dtypes import READABLE
from zoo.declarations.recipe import Recipe
from zoo.declarations.storage import BlockStorage, FloatStorage
from zoo.errors import ZooError
from zoo.operations import Program, record

if TYPE_CHECKING:
    from zoo.registry import Registry

SLAB = 4 * 2**20
"""Bytes of a slab as the checkpoint stores it: long enough to stream, short enough to hold several."""


@dataclass(frozen=True, slots=True)
class SlabJob:
    """A slab to build: some rows of one part of a parameter."""

    part: Part
    start: int
    """First row, counted in the part as stored."""
    stop: int
    row: int
    """Where the first row lies in the parameter."""


@dataclass(frozen=True, slots=True)
class Placed:
    """A parameter with its storage and its arrays in the data file."""

    parameter: Parameter
    storage: FloatStorage | BlockStorage
    arrays: tuple[StoredArray, ...]

    @property
    def rows(self) -> int:
        return self.parameter.shape[0]

    @property
    def streamed(self) -> StoredArray:
        """The array that is written slab by slab; the others are small and written whole."""
        return self.arrays[0]

    @property
    def stop(self) -> int:
        """The end of its last array in the data file."""
        return self.arrays[-1].offset + self.arrays[-1].nbytes

    def jobs(self, tensors: Mapping[str, TensorInfo]) -> Iterator[SlabJob]:
        """Cut the parameter into slabs; a slab lies in one part."""
        row = 0
        for part in self.parameter.parts:
            shape, item = part.stored_shape, READABLE[tensors[part.tensor].dtype].nbytes
            step = max(1, SLAB // max(1, math.prod(shape[1:]) * item))
            for start in range(0, shape[0], step):
                stop = min(start + step, shape[0])
                yield SlabJob(part, start, stop, row + start)
            row += shape[0]


@dataclass(frozen=True)
class Layout:
    """Everything that follows from a recipe before a checkpoint is looked at."""

    recipe: Recipe
    architecture: ArchitecturePart | None
    quantizer: Quantizer
    target: Target
    placed: tuple[Placed, ...]

    @property
    def arrays(self) -> list[StoredArray]:
        return [array for one in self.placed for array in one.arrays]

    @property
    def storages(self) -> dict[str, FloatStorage | BlockStorage]:
        return {one.parameter.name: one.storage for one in self.placed}

    @property
    def data_size(self) -> int:
        return max((one.stop for one in self.placed), default=0)

    @property
    def parameters(self) -> int:
        """Count the model's own weights, without padding."""
        return sum(math.prod(part.shape) for one in self.placed for part in one.parameter.parts)

    @property
    def bits_per_weight(self) -> float:
        """Stored bits, scales and zero points included, over the model's own weights."""
        return round(sum(array.nbytes for array in self.arrays) * 8 / max(1, self.parameters), 4)

    @cached_property
    def files(self) -> tuple[tuple[str, bytes], ...]:
        """The files that hold no weights, as the target makes them."""
        program = self.program if self.target.operations is not None else None
        return tuple(self.target.files(self.recipe, program, self.arrays, self.storages))

    @cached_property
    def program(self) -> Program | None:
        """The computation, as the architecture composes it; None where no weights are built."""
        if self.architecture is None:
            return None
        return record(self.architecture, self.recipe.architecture, self.target.head_multiple)


def lay_out(recipe: Recipe, registry: Registry) -> Layout:
    """Follow a recipe to every stored array.

    Raises:
        ZooError: the target refuses the recipe, or a part is not installed.
    """
    target = registry.target(recipe.target.name)
    target.check(recipe)
    quantizer = make_quantizer(recipe, registry)
    if not target.needs_weights:
        return Layout(recipe, None, quantizer, target, ())
    architecture = registry.architecture(recipe.architecture.type)
    parameters = list(architecture.parameters(recipe.architecture, target.head_multiple))
    storages = {one.name: quantizer.storage(one) for one in parameters}
    grouped: dict[str, list[StoredArray]] = {}
    at = 0
    for array in target.place(parameters, storages):
        if array.offset < at or (array.parameter.name in grouped and next(reversed(grouped)) != array.parameter.name):
            raise ZooError(f"target {recipe.target.name!r} places {array.parameter.name} out of order; it is defective")
        at = array.offset + array.nbytes
        grouped.setdefault(array.parameter.name, []).append(array)
    placed = tuple(Placed(arrays[0].parameter, storages[name], tuple(arrays)) for name, arrays in grouped.items())
    return Layout(recipe, architecture, quantizer, target, placed)


def program(recipe: Recipe, registry: Registry) -> Program:
    """Record what a recipe's package computes."""
    target = registry.target(recipe.target.name)
    return record(registry.architecture(recipe.architecture.type), recipe.architecture, target.head_multiple)


def make_quantizer(recipe: Recipe, registry: Registry) -> Quantizer:
    """Make the recipe's quantizer with its options.

    Raises:
        ZooError: it does not offer the precision, or an option is none of its own.
    """
    from pydantic import ValidationError

    name = recipe.quantizer.name
    kind: Any = registry.quantizer(name)
    if recipe.precision not in kind.precisions:
        raise ZooError(f"quantizer {name!r} makes {', '.join(kind.precisions)}, not {recipe.precision}")
    try:
        options = kind.Options.model_validate(recipe.quantizer.options)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(step) for step in first["loc"]) or "options"
        raise ZooError(f"quantizer {name!r}: {where}: {first['msg']}") from None
    quantizer: Quantizer = kind(recipe.precision, options)
    return quantizer


def account(layout: Layout, checkpoint: Checkpoint | None) -> None:
    """Check that the checkpoint holds every tensor that the build reads, in its shape, and none that nobody reads.

    Raises:
        ZooError: a tensor is missing, unused, of another shape or of a type that is not read.
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
            f"{checkpoint.name}/{found[unused[0]].file}: tensor {unused[0]!r} is used by nothing in the architecture"
            f"{more}; the model computes something that this build would lose"
        )
    read: dict[str, tuple[int, ...]] = {}
    for one in layout.placed:
        read |= {part.tensor: part.shape for part in one.parameter.parts}
    if read != wanted:
        odd = sorted(read.keys() ^ wanted.keys()) or sorted(name for name in read if read[name] != wanted[name])
        raise ZooError(f"architecture {arch.type!r} contradicts itself about tensor {odd[0]!r}; it is defective")
    if layout.target.operations is not None and layout.program is not None:
        _account_weights(layout.program, layout)


def _account_weights(program: Program, layout: Layout) -> None:
    """Check that the computation uses the weights that are stored, and all of them."""
    kind, stored = layout.recipe.architecture.type, {one.parameter.name for one in layout.placed}
    used = {weight.name: step.name for step in program.steps for weight in step.operation.weights}
    for name in used.keys() - stored:
        raise ZooError(
            f"architecture {kind!r}: {used[name]} uses {name!r}, which its parameters() does not list; it is defective"
        )
    for name in sorted(stored - used.keys()):
        raise ZooError(f"architecture {kind!r}: its forward() uses {name!r} nowhere; it is defective")


def _instead(name: str, found: Any) -> str:
    import difflib

    near = difflib.get_close_matches(name, list(found)[:5000], n=1, cutoff=0.8)
    return f"; the nearest there is {near[0]!r}" if near else ""
