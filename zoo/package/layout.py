"""What a build writes where: the parameters of a recipe, how each is stored, and its place in the data file."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from zoo.contracts import ArchitecturePart, Parameter, Quantizer, StoredArray, Target
from zoo.declarations.recipe import Recipe
from zoo.declarations.storage import BlockStorage, FloatStorage
from zoo.errors import ZooError
from zoo.operations import Program, record

if TYPE_CHECKING:
    from zoo.registry import Registry


@dataclass(frozen=True, slots=True)
class Placed:
    """A parameter with its storage and its arrays in the data file."""

    parameter: Parameter
    storage: FloatStorage | BlockStorage
    arrays: tuple[StoredArray, ...]

    @property
    def rows(self) -> int:
        return self.parameter.rows

    @property
    def row_bytes(self) -> int:
        """What a row of the streamed array takes."""
        return self.streamed.nbytes // max(1, self.rows)

    @property
    def streamed(self) -> StoredArray:
        """The array that is written slab by slab; the others are small and written whole."""
        return self.arrays[0]

    @property
    def stop(self) -> int:
        """The end of its last array in the data file."""
        return self.arrays[-1].offset + self.arrays[-1].nbytes


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
        return sum(one.parameter.size for one in self.placed)

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
