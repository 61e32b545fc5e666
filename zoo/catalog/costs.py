"""What builds and runs cost, from a model's numbers alone: no checkpoint, each kind of weight laid out once."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.catalog.cards import BuildCost, LayerWeight, Share
from zoo.contracts import Parameter, StoredArray, TensorInfo
from zoo.declarations.architecture import Architecture
from zoo.declarations.recipe import Recipe
from zoo.package.layout import Layout, Placed, make_quantizer
from zoo.package.memory import SLAB_JOB, run_memory, working_memory

if TYPE_CHECKING:
    from zoo.registry import Registry

THREADS = 8
"""The most threads that a build takes by default, so the most memory that it needs."""
CHECKPOINT_TYPE = "F16"
"""The type that weights are assumed to be published in; BF16 takes as much."""
BUILD_BASE = 60 * 2**20
"""Resident size of the interpreter with numpy, onnx and the parts of a build imported, as measured on Linux."""
RUN_CONTEXT = 2048
"""Tokens of context that the memory to run is for, unless the model has fewer."""


@dataclass
class Headers:
    """A checkpoint that exists by its headers only."""

    tensors: Mapping[str, TensorInfo]
    name: str = "declared"
    fingerprint: str = ""
    config: Mapping[str, Any] = field(default_factory=dict)

    def read(self, name: str, start: int, stop: int, out: Any = None) -> Any:
        """Refuse: there are no weights."""
        raise NotImplementedError

    def stamps(self) -> dict[str, tuple[int, int]]:
        """No files."""
        return {}

    def path(self, filename: str) -> Path | None:
        """No files."""
        return None

    def licences(self) -> list[str]:
        """No files."""
        return []


@dataclass
class Numbers:
    """The weights that an architecture's numbers make, those that differ in nothing but the layer counted together."""

    architecture: Architecture
    registry: Registry

    @cached_property
    def _listed(self) -> dict[int, list[Parameter]]:
        return {}

    def parameters_for(self, head_multiple: int = 1) -> list[Parameter]:
        """List the weights of the graph."""
        if head_multiple not in self._listed:
            part = self.registry.architecture(self.architecture.type)
            self._listed[head_multiple] = part.parameters(self.architecture, head_multiple)
        return self._listed[head_multiple]

    @cached_property
    def parameters(self) -> int:
        """Count the weights, a tied one once."""
        return sum(size * times for (_, size), times in self._sizes.items())

    @cached_property
    def _sizes(self) -> Counter[tuple[str, int]]:
        sizes: Counter[tuple[str, int]] = Counter()
        for one in self.parameters_for():
            sizes[_share(one), sum(math.prod(part.shape) for part in one.parts)] += 1
        return sizes

    def shares(self) -> tuple[Share, ...]:
        """Divide the weights among the parts of the model, in the order they are used."""
        shares: dict[str, int] = {}
        for (name, size), times in self._sizes.items():
            shares[name] = shares.get(name, 0) + size * times
        return tuple(Share(name=name, parameters=count) for name, count in shares.items())

    def layer(self) -> tuple[LayerWeight, ...]:
        """List the weights of the first layer."""
        return tuple(
            LayerWeight(role=one.role or one.name, shape=one.shape) for one in self.parameters_for() if one.layer == 0
        )

    def cost(self, recipe: Recipe) -> BuildCost:
        """Work out what a recipe costs.

        Raises:
            ZooError: the target refuses it, or a part is not installed.
        """
        target = self.registry.target(recipe.target.name)
        target.check(recipe)
        quantizer = make_quantizer(recipe, self.registry)
        distinct, times = _distinct(self.parameters_for(target.head_multiple))
        storages = {one.name: quantizer.storage(one) for one in distinct}
        grouped: dict[str, list[StoredArray]] = {}
        for array in target.place(distinct, storages):
            grouped.setdefault(array.parameter.name, []).append(array)
        part = self.registry.architecture(recipe.architecture.type)
        once = [Placed(arrays[0].parameter, storages[name], tuple(arrays)) for name, arrays in grouped.items()]
        layout = Layout(recipe, part, quantizer, target, tuple(once))
        whole = Layout(
            recipe, part, quantizer, target, tuple(one for one in once for _ in range(times[one.parameter.name]))
        )
        headers = Headers({info.name: info for one in distinct for info in _headers(one)})
        more = sum((times[one.parameter.name] - 1) * sum(1 for _ in one.jobs(headers.tensors)) for one in once)
        context = min(RUN_CONTEXT, recipe.architecture.max_position_embeddings)
        return BuildCost(
            target=recipe.target.name,
            precision=recipe.precision,
            quantizer=recipe.quantizer.name,
            weights_bytes=sum(array.nbytes for array in whole.arrays),
            bits_per_weight=whole.bits_per_weight,
            build_memory_bytes=BUILD_BASE + working_memory(layout, headers, THREADS) + more * SLAB_JOB,
            run_memory_bytes=run_memory(whole, context) if target.runnable else None,
            run_context=context,
        )


def _headers(parameter: Parameter) -> list[TensorInfo]:
    return [TensorInfo(part.tensor, CHECKPOINT_TYPE, part.shape, math.prod(part.shape) * 2) for part in parameter.parts]


def _distinct(parameters: Sequence[Parameter]) -> tuple[list[Parameter], dict[str, int]]:
    """Keep one of all weights that differ in nothing but their layer; count them under the kept one's name."""
    kept: dict[object, Parameter] = {}
    times: dict[str, int] = {}
    for one in parameters:
        shapes = tuple((part.shape, part.pad_rows, part.pad_columns) for part in one.parts)
        name = kept.setdefault((one.kind, one.role, one.layer is None, shapes), one).name
        times[name] = times.get(name, 0) + 1
    return list(kept.values()), times


def _share(parameter: Parameter) -> str:
    """Name the part of the model that a weight belongs to."""
    if parameter.kind == "norm":
        return "norms"
    if parameter.layer is None:
        return "embedding" if parameter.kind == "embedding" else "output head"
    return "attention" if "attn" in parameter.role or "attention" in parameter.role else "MLP"
