"""What builds and runs cost, from a model's numbers alone: no checkpoint, each kind of weight laid out once."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from operator import attrgetter
from typing import Any

from zoo.catalog.cards import BuildCost, LayerWeight, Share
from zoo.contracts import Parameter, RowSlice, View, flat_shape
from zoo.declarations.architecture import Architecture
from zoo.declarations.recipe import Recipe
from zoo.package.layout import Layout, arrange, checkpoint_view, lay_out, make_quantizer
from zoo.package.memory import bookkeeping, working_memory
from zoo.package.running import RUN_BASE, RUN_CONTEXT, Held, held_bytes, memory_of, runs_here
from zoo.package.slabs import slab_jobs
from zoo.registry import Registry
from zoo.sources.declared import DeclaredCheckpoint

THREADS = 8
"""The most threads that a build takes by default, so the most memory that it needs."""
BUILD_BASE = 60 * 2**20
"""Resident size of the interpreter with numpy, onnx and the parts of a build imported, as measured on Linux."""


@dataclass(frozen=True)
class Alike:
    """Weights that differ in nothing but their layer, counted under the first."""

    parameter: Parameter
    times: int
    slabs: int
    """Slabs that one of them is built in."""


@dataclass
class Numbers:
    """The weights that an architecture's numbers make, those that differ in nothing but the layer counted together."""

    architecture: Architecture
    registry: Registry
    file_names: dict[tuple[str, str], tuple[str, ...]] = field(default_factory=dict)
    """(target, architecture type) → names of files; shared among models."""
    _alike: dict[tuple[int, View], dict[str, Alike]] = field(default_factory=dict)
    _helds: dict[tuple[int, bool], Held] = field(default_factory=dict)

    def alike(self, head_multiple: int, view: View = "graph") -> dict[str, Alike]:
        """Group the weights, by the name of each group's first, in the order they are used."""
        key = head_multiple, view
        if key not in self._alike:
            part = self.registry.architecture(self.architecture.type)
            graph = list(part.parameters(self.architecture, head_multiple))
            self._alike[key] = _group(graph if view == "graph" else checkpoint_view(graph))
        return self._alike[key]

    @property
    def _any(self) -> Iterable[Alike]:
        """The weights, for questions that padding does not enter."""
        return (next(iter(self._alike.values())) if self._alike else self.alike(1)).values()

    @cached_property
    def parameters(self) -> int:
        """Count the weights, a tied one once."""
        return sum(counted.parameter.size * counted.times for counted in self._any)

    def shares(self) -> tuple[Share, ...]:
        """Divide the weights among the parts of the model, in the order they are used."""
        shares: dict[str, int] = {}
        for counted in self._any:
            name = _share(counted.parameter)
            shares[name] = shares.get(name, 0) + counted.parameter.size * counted.times
        return tuple(Share(name=name, parameters=count) for name, count in shares.items())

    def layer(self) -> tuple[LayerWeight, ...]:
        """List the weights of the first layer, unpadded."""
        first = [counted.parameter for counted in self._any if counted.parameter.layer == 0]
        return tuple(
            LayerWeight(
                role=parameter.role or parameter.name,
                shape=_unpadded(parameter),
            )
            for parameter in first
        )

    def cost(self, recipe: Recipe, context: int = RUN_CONTEXT) -> BuildCost:
        """Work out what a recipe costs.

        Args:
            context: tokens that a run holds, where the model takes so many.

        Raises:
            ZooError: the target refuses it, or a part is not installed.
        """
        target = self.registry.target(recipe.target.name)
        target.check(recipe)
        quantizer = make_quantizer(recipe, self.registry)
        alike = self.alike(target.head_multiple, target.view)
        distinct = [counted.parameter for counted in alike.values()]
        part = self.registry.architecture(recipe.architecture.type)
        placed = arrange(recipe, target, quantizer, distinct)
        layout = Layout(recipe, part, quantizer, target, placed, tuple(distinct))
        headers = _headers(distinct)
        more = {weight.parameter.name: alike[weight.parameter.name].times - 1 for weight in placed}
        slabs = sum(more[name] * alike[name].slabs for name in more)
        arrays = sum(more[weight.parameter.name] * len(weight.arrays) for weight in placed)
        stored = sum(
            (more[weight.parameter.name] + 1) * sum(array.nbytes for array in weight.arrays) for weight in placed
        )
        context = min(context, recipe.architecture.context_length)
        running = None
        if runs_here(layout):
            held = self._held(layout)
            repeated = sum(more[weight.parameter.name] * held_bytes(weight, held.widened) for weight in placed)
            running = RUN_BASE + repeated + memory_of(layout, held).running(context)
        return BuildCost(
            target=recipe.target.name,
            precision=recipe.precision,
            quantizer=recipe.quantizer.name,
            weights_bytes=stored,
            bits_per_weight=round(stored * 8 / max(1, self.parameters), 4),
            build_memory_bytes=BUILD_BASE + working_memory(layout, headers, THREADS) + bookkeeping(slabs, arrays),
            run_memory_bytes=running,
            run_context=context,
            files=(*(section.file for section in layout.sections), *self.files(recipe)),
        )

    def _held(self, layout: Layout) -> Held:
        """Read off the program what decides the memory of a run, once for the builds that compute the same."""
        key = layout.target.head_multiple, layout.recipe.scales_lookups
        if key not in self._helds:
            assert layout.program is not None  # an engine of zoo's runs it
            self._helds[key] = Held.of(layout.program)
        return self._helds[key]

    def files(self, recipe: Recipe) -> tuple[str, ...]:
        """Name the files that hold no weights, as the target makes them for one layer; only names are asked for."""
        key = (recipe.target.name, recipe.architecture.type)
        if key not in self.file_names:
            short = recipe.architecture.with_layers(1)
            layout = lay_out(recipe.model_copy(update={"architecture": short}), self.registry)
            self.file_names[key] = tuple(name for name, _ in layout.files())
        return self.file_names[key]


def _group(parameters: Iterable[Parameter]) -> dict[str, Alike]:
    """Group weights that differ in nothing but their layer: the ends of what they are made of tell it."""
    groups: dict[object, list[Any]] = {}
    for parameter in parameters:
        ends = _UNNAMED(parameter.slices[0]), _UNNAMED(parameter.slices[-1])
        key = (
            parameter.kind,
            parameter.role,
            parameter.layer is None,
            parameter.experts,
            len(parameter.slices),
            parameter.size,
            ends,
        )
        groups.setdefault(key, [parameter, 0])[1] += 1
    return {one.name: Alike(one, times, _slabs(one)) for one, times in groups.values()}


_UNNAMED = attrgetter(*(name for name in RowSlice.__slots__ if name != "tensor"))
"""All of a slice but the tensor's name."""


def _headers(parameters: Iterable[Parameter]) -> DeclaredCheckpoint:
    return DeclaredCheckpoint.of(
        (each.tensor, each.tensor_shape) for parameter in parameters for each in parameter.slices
    )


def _slabs(parameter: Parameter) -> int:
    """Count the slabs that a weight is built in."""
    return sum(1 for _ in slab_jobs(parameter, _headers([parameter]).tensors))


def _unpadded(parameter: Parameter) -> tuple[int, ...]:
    """The shape of a weight as its tensors have it."""
    if len(parameter.shape) == 1:
        return (parameter.size,)
    columns = flat_shape(parameter.slices[0].tensor_shape)[1]
    rows = parameter.size // columns
    return (rows, columns) if parameter.experts is None else (parameter.experts, rows // parameter.experts, columns)


def _share(parameter: Parameter) -> str:
    """Name the part of the model that a weight belongs to."""
    if parameter.kind == "norm":
        return "norms"
    if parameter.layer is None:
        return "embedding" if parameter.kind == "embedding" else "output head"
    return "attention" if "attn" in parameter.role or "attention" in parameter.role else "MLP"
