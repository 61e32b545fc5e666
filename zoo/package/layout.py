"""What a build writes where: the parameters of a recipe, how each is stored, and its place in the data file."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from zoo.contracts import (
    Adapting,
    ArchitecturePart,
    Encoding,
    PackageContents,
    Parameter,
    Quantizer,
    Rearranging,
    RowSlice,
    StoredArray,
    Target,
    reads_weights,
)
from zoo.declarations.dtypes import BY_NAME
from zoo.declarations.recipe import Recipe
from zoo.declarations.scheme import BlockScheme, Scheme
from zoo.errors import ZooError
from zoo.operations import Embedding, Program, record, with_lookup_scales
from zoo.registry import Registry

if TYPE_CHECKING:
    from numpy.typing import NDArray


NO_FILES: Mapping[str, bytes] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Section:
    """The weights of one data file, behind its header. All sections together are counted as one run of bytes."""

    file: str
    start: int
    """Where it begins in the run of all sections."""
    size: int


@dataclass(frozen=True, slots=True)
class Placed:
    """A parameter with its scheme and its arrays."""

    parameter: Parameter
    scheme: Scheme
    arrays: tuple[StoredArray, ...]
    start: int
    """Where its data file's section begins in the run of all sections."""

    @property
    def rows(self) -> int:
        return self.parameter.rows

    @property
    def streamed(self) -> StoredArray | None:
        """The array that is written slab by slab; None where rows do not follow each other in it."""
        return self.arrays[0] if self.arrays[0].rows == "first" else None

    @property
    def held(self) -> tuple[StoredArray, ...]:
        """The arrays that are written whole: small ones, and those whose rows do not follow each other."""
        return self.arrays[1:] if self.streamed else self.arrays

    @property
    def row_bytes(self) -> int:
        """What a row of the streamed array takes."""
        return self.streamed.nbytes // max(1, self.rows) if self.streamed else 0

    def offset(self, array: StoredArray) -> int:
        """Where an array begins in the run of all sections."""
        return self.start + array.offset

    @property
    def stop(self) -> int:
        """The end of its last array in the run of all sections."""
        return self.offset(self.arrays[-1]) + self.arrays[-1].nbytes

    def row_shape(self, array: StoredArray) -> tuple[int, ...]:
        """What one row of the weight has in an array."""
        return array.shape[:-1] if array.rows == "last" else array.shape[max(1, len(self.parameter.shape) - 1) :]

    def by_rows(self, arrays: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """See whole arrays as (rows, ...), by name; those without rows are left out."""
        views = {}
        for array in self.arrays:
            if array.array in arrays and array.rows != "none":
                whole = arrays[array.array]
                last = array.rows == "last"
                views[array.array] = whole.T if last else whole.reshape(self.rows, *self.row_shape(array))
        return views


@dataclass(frozen=True)
class Layout:
    """Everything that follows from a recipe before a checkpoint is looked at."""

    recipe: Recipe
    architecture: ArchitecturePart | None
    quantizer: Quantizer
    target: Target
    placed: tuple[Placed, ...]
    graph: tuple[Parameter, ...]
    """The weights of the computation; those that are placed, unless the target stores the checkpoint's own."""

    def takes_over(self, parameter: Parameter) -> bool:
        """Whether a weight's levels are copied from the checkpoint, which stores them as this recipe states."""
        return taken_over(self.recipe, parameter) is not None

    @cached_property
    def encoding(self) -> Encoding:
        """How weights lie in arrays."""
        return self.target.encoding_for(self.recipe) if isinstance(self.target, Adapting) else self.target.encoding

    def fill(self, placed: Placed, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Fill the arrays of a weight that have no rows."""
        for array in placed.arrays:
            if array.rows == "none":
                self.encoding.fill(placed.scheme, array.array, arrays[array.array])

    @property
    def arrays(self) -> list[StoredArray]:
        return [array for placed in self.placed for array in placed.arrays]

    @property
    def schemes(self) -> dict[str, Scheme]:
        return {placed.parameter.name: placed.scheme for placed in self.placed}

    @cached_property
    def sections(self) -> tuple[Section, ...]:
        """The data files, in writing order."""
        sizes: dict[str, tuple[int, int]] = {}
        for placed in self.placed:
            sizes[placed.arrays[0].file] = (placed.start, placed.stop - placed.start)
        return tuple(Section(file, start, size) for file, (start, size) in sizes.items())

    @property
    def data_size(self) -> int:
        """Bytes of all weights, headers not counted."""
        return sum(section.size for section in self.sections)

    @property
    def parameters(self) -> int:
        """Count the model's own weights, without padding."""
        return sum(placed.parameter.size for placed in self.placed)

    @property
    def taken_over(self) -> frozenset[str]:
        """The tensors whose stored levels are taken over."""
        kept = (placed.parameter for placed in self.placed if self.takes_over(placed.parameter))
        return frozenset(each.tensor for parameter in kept for each in parameter.slices)

    @property
    def bits_per_weight(self) -> float:
        """Stored bits, scales and zero points included, over the model's own weights."""
        return round(sum(array.nbytes for array in self.arrays) * 8 / max(1, self.parameters), 4)

    def files(self, companions: Mapping[str, bytes] = NO_FILES) -> tuple[tuple[str, bytes], ...]:
        """Make the files that hold no weights, as the target does, once for the same companions."""
        key = frozenset(companions.items())
        if key not in self._files:
            self._files[key] = tuple(self.target.files(self._contents(companions)))
        return self._files[key]

    @cached_property
    def _files(self) -> dict[frozenset[tuple[str, bytes]], tuple[tuple[str, bytes], ...]]:
        return {}

    def headers(self, companions: Mapping[str, bytes] = NO_FILES) -> dict[str, bytes]:
        """Make what each data file begins with, as the target does."""
        headers = self.target.headers(self._contents(companions))
        if unknown := headers.keys() - {section.file for section in self.sections}:
            name = self.recipe.target.name
            raise ZooError(f"target {name!r} makes a header of {min(unknown)}, a file without weights; it is defective")
        return {section.file: headers.get(section.file, b"") for section in self.sections}

    def _contents(self, companions: Mapping[str, bytes]) -> PackageContents:
        program = self.program if self.target.operations is not None else None
        return PackageContents(self.recipe, program, self.arrays, self.schemes, companions)

    @cached_property
    def program(self) -> Program | None:
        """The computation, as the architecture composes it; None where no weights are built."""
        if self.architecture is None:
            return None
        program = record(self.architecture, self.recipe.architecture, self.target.head_multiple)
        return with_lookup_scales(program) if self.recipe.scales_lookups else program


def lay_out(recipe: Recipe, registry: Registry) -> Layout:
    """Follow a recipe to every stored array.

    Raises:
        ZooError: the target refuses the recipe, or a part is not installed.
    """
    target = registry.target(recipe.target.name)
    target.check(recipe)
    quantizer = make_quantizer(recipe, registry)
    if not reads_weights(target, recipe.target.options):
        return Layout(recipe, None, quantizer, target, (), ())
    architecture = registry.architecture(recipe.architecture.type)
    graph = tuple(architecture.parameters(recipe.architecture, target.head_multiple))
    if recipe.scales_lookups:
        graph = _with_lookup_scales(graph, record(architecture, recipe.architecture, target.head_multiple))
    stored: Sequence[Parameter] = graph if target.view == "graph" else checkpoint_view(graph)
    if isinstance(target, Rearranging):
        stored = target.rearranged(recipe, stored)
    placed = arrange(recipe, target, quantizer, stored)
    return Layout(recipe, architecture, quantizer, target, placed, graph)


def _with_lookup_scales(graph: tuple[Parameter, ...], program: Program) -> tuple[Parameter, ...]:
    """Put a rescaled embedding and its vector last: their scales are known when everything else was read."""
    scaled = [embedding for embedding in with_lookup_scales(program).all(Embedding) if embedding.channels is not None]
    last = {weight.name: weight for embedding in scaled for weight in embedding.weights}
    return (*(parameter for parameter in graph if parameter.name not in last), *last.values())


def arrange(
    recipe: Recipe, target: Target, quantizer: Quantizer, parameters: Sequence[Parameter]
) -> tuple[Placed, ...]:
    """Give every parameter its scheme and its place.

    Raises:
        ZooError: the target places arrays otherwise than it must.
    """
    schemes = {parameter.name: taken_over(recipe, parameter) or quantizer.scheme(parameter) for parameter in parameters}
    if isinstance(target, Adapting):
        schemes = {parameter.name: target.adapt(recipe, parameter, schemes[parameter.name]) for parameter in parameters}
    grouped: dict[str, list[StoredArray]] = {}
    starts: dict[str, int] = {}
    at = start = 0
    for array in target.place(recipe, parameters, schemes):
        name, rows = array.parameter.name, array.parameter.shape
        if array.file not in starts:
            start, at = start + at, 0
            starts[array.file] = start
        elif starts[array.file] != start:
            raise ZooError(f"target {recipe.target.name!r} goes back to {array.file}; it is defective")
        before = grouped.get(name)
        if array.offset < at or (before and (next(reversed(grouped)) != name or before[0].file != array.file)):
            raise ZooError(f"target {recipe.target.name!r} places {name} out of order; it is defective")
        if not _lies_by_rows(array, rows):
            raise ZooError(
                f"target {recipe.target.name!r} stores {array.array} of {name} as {list(array.shape)}, "
                f"not row by row of {list(rows)}; it is defective"
            )
        known = BY_NAME.get(array.dtype)
        if known is None or not known.numpy or array.nbytes != math.prod(array.shape) * known.nbytes:
            raise ZooError(
                f"target {recipe.target.name!r} stores {array.array} of {name} as {array.nbytes} bytes of "
                f"{array.dtype} {list(array.shape)}, which no array takes; it is defective"
            )
        at = array.offset + array.nbytes
        grouped.setdefault(name, []).append(array)
    return tuple(
        Placed(arrays[0].parameter, schemes[name], tuple(arrays), starts[arrays[0].file])
        for name, arrays in grouped.items()
    )


def _lies_by_rows(array: StoredArray, shape: tuple[int, ...]) -> bool:
    """Tell whether the rows of a weight of this shape lie in an array where it says."""
    if array.rows == "first":
        axes = max(1, len(shape) - 1)
        return array.shape[:axes] == shape[:axes]
    return array.rows == "none" or (len(shape) == len(array.shape) == 2 and array.shape[1] == shape[0])


def taken_over(recipe: Recipe, parameter: Parameter) -> BlockScheme | None:
    """Give the blocks in which a weight is taken over from the checkpoint; None where it is quantized."""
    if parameter.kind not in ("linear", "embedding"):
        return None
    return recipe.taken_over.get(parameter.name) or recipe.taken_over.get(parameter.role)


def checkpoint_view(graph: Sequence[Parameter]) -> list[Parameter]:
    """See a graph's weights as the tensors that they are made of: whole, under their own names, untouched."""
    tensors: dict[str, Parameter] = {}
    for parameter in graph:
        for each in parameter.slices:
            if each.tensor not in tensors:
                shape = each.tensor_shape
                tensors[each.tensor] = Parameter(
                    each.tensor,
                    parameter.kind,
                    (RowSlice(each.tensor, shape),),
                    parameter.layer,
                    parameter.role,
                    math.prod(shape[:-2]) if len(shape) > 2 else None,
                )
    return list(tensors.values())


def program(recipe: Recipe, registry: Registry) -> Program:
    """Record what a recipe's package computes."""
    target = registry.target(recipe.target.name)
    return record(registry.architecture(recipe.architecture.type), recipe.architecture, target.head_multiple)


def make_quantizer(recipe: Recipe, registry: Registry) -> Quantizer:
    """Make the recipe's quantizer with its options.

    Raises:
        ZooError: it does not offer the precision, or an option is not one of its own.
    """
    name = recipe.quantizer.name
    kind: Any = registry.quantizer(name)
    if recipe.precision not in kind.precisions:
        raise ZooError(f"quantizer {name!r} supports {', '.join(kind.precisions)}, not {recipe.precision}")
    try:
        options = kind.Options.model_validate(recipe.quantizer.options)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(step) for step in first["loc"]) or "options"
        raise ZooError(f"quantizer {name!r}: {where}: {first['msg']}") from None
    quantizer: Quantizer = kind(recipe.precision, options)
    return quantizer
