"""List the declared models, with what is known of each."""

from __future__ import annotations

import fnmatch
import shutil
from typing import Literal, cast

from pydantic import Field

from zoo.catalog.directory import search_listed
from zoo.declarations.architecture import Attention
from zoo.declarations.base import Value
from zoo.declarations.recipe import Precision
from zoo.errors import ZooError
from zoo.home import packages_folder
from zoo.operations import missing
from zoo.package.store import StoredPackage, stored_packages
from zoo.registry import DeclaredModel, Registry
from zoo.reports import is_verified
from zoo.results import all_reports, ladder

DEFAULT_TARGET = "ort"


class ModelEntry(Value):
    """A line of the list."""

    name: str
    family: str
    parameters: int
    """Exact number of weights, a tied one counted once."""
    attention: Attention
    context_length: int
    licence: str
    precisions: tuple[str, ...]
    """Precisions that the default target builds."""
    built: tuple[str, ...]
    """Precisions of which a package is in the store."""
    verified: tuple[str, ...] = Field(default=(), exclude=True)
    """Those of which every package in the store was verified; no part of the JSON."""
    rungs: tuple[str, ...] = Field(default=(), exclude=True)
    """How far it has come (``zoo.results.RUNGS``), where results were read; no part of the JSON."""


def parameter_count(registry: Registry, model: DeclaredModel) -> int:
    """Count a model's weights from its numbers alone."""
    return registry.architecture(model.architecture.type).parameter_count(model.architecture)


def precisions(registry: Registry, model: DeclaredModel, target: str = DEFAULT_TARGET) -> tuple[str, ...]:
    """Name the precisions that a target builds the model in."""
    part, arch = registry.target(target), model.architecture
    # Layers that are alike need alike; one of each kind is enough, unless only the architecture knows the kinds.
    arch = arch if arch.options else arch.with_layers(arch.layer_kinds)
    return () if missing(registry.architecture(arch.type), arch, part) else tuple(part.precisions)


def list_models(
    registry: Registry,
    pattern: str = "*",
    family: str | None = None,
    *,
    built_only: bool = False,
    fits: int | None = None,
    results: bool = False,
) -> list[ModelEntry]:
    """List declared models whose name, or ``family/name``, matches a glob.

    Args:
        built_only: only those of which a package is in the store.
        fits: only precisions that build on this machine now and run with this many tokens of context.
        results: read what is recorded, and say how far each model has come.
    """
    room = Room(registry, fits) if fits is not None else None
    built, known = stored_packages(), all_reports(registry) if results else None
    entries = []
    for model in registry.models():
        if not any(fnmatch.fnmatchcase(name.lower(), pattern.lower()) for name in (model.name, model.full_name)):
            continue
        if family is not None and not fnmatch.fnmatchcase(model.family.name, family):
            continue
        mine = tuple(
            package for package in built if package.model == model.name and package.family == model.family.name
        )
        if built_only and not mine:
            continue
        offered = precisions(registry, model)
        if room is not None:
            offered = tuple(precision for precision in offered if room.holds(model, precision))
            if not offered:
                continue
        entries.append(
            ModelEntry(
                name=model.name,
                family=model.family.name,
                parameters=parameter_count(registry, model),
                attention=model.architecture.attention,
                context_length=model.architecture.context_length,
                licence=model.licence.id,
                precisions=offered,
                built=tuple(dict.fromkeys(package.precision for package in mine)),
                verified=_verified(mine),
                rungs=ladder(model, known) if known is not None else (),
            )
        )
    return entries


def _verified(packages: tuple[StoredPackage, ...]) -> tuple[str, ...]:
    passed = {package.precision: True for package in packages}
    for package in packages:
        passed[package.precision] &= is_verified(package.recipe_hash, package.contents)
    return tuple(precision for precision, good in passed.items() if good)


class Room:
    """What this machine has now: memory to build and to run, disk for the package.

    Args:
        context: tokens that a run holds.
    """

    def __init__(self, registry: Registry, context: int) -> None:
        from zoo.engine.machine import free_memory

        self._registry, self._context = registry, context
        self._memory, folder = free_memory(), packages_folder()
        while not folder.exists():
            folder = folder.parent
        self._disk = shutil.disk_usage(folder).free
        self._costs: dict[tuple[str, str], bool] = {}

    def holds(self, model: DeclaredModel, precision: str) -> bool:
        """Tell whether a precision of a model builds and runs here."""
        key = (model.architecture.model_dump_json(), precision)
        if key not in self._costs:
            self._costs[key] = self._check(model, precision)
        return self._costs[key]

    def _check(self, model: DeclaredModel, precision: str) -> bool:
        from zoo.catalog.costs import Numbers
        from zoo.stages.resolve import pin_declared

        if self._context > model.architecture.context_length:
            return False
        try:
            recipe = pin_declared(self._registry, model, DEFAULT_TARGET, cast("Precision", precision))
            cost = Numbers(model.architecture, self._registry).cost(recipe, self._context)
        except ZooError:
            return False
        memory = max(cost.build_memory_bytes, cost.run_memory_bytes or 0)
        return memory <= self._memory and cost.weights_bytes <= self._disk


class Hit(Value):
    """A model or a plugin that says what was searched for."""

    kind: Literal["model", "plugin"]
    name: str
    what: str


def search(registry: Registry, word: str) -> list[Hit]:
    """Search declared models (name, title, family, hub id, licence) and the directory of plugins."""
    hits = []
    for model in registry.models():
        family = model.family
        texts = (model.full_name, model.model.title, family.title, family.organisation, model.model.weights.hub,
                 model.licence.id, model.model_type)  # fmt: skip
        if any(word.lower() in text.lower() for text in texts if text):
            what = f"{model.model.title or family.title}, {model.model.weights.hub or 'with its weights'}"
            hits.append(Hit(kind="model", name=model.full_name, what=what))
    listed = search_listed(word)
    return hits + [
        Hit(kind="plugin", name=plugin.name, what=f"{plugin.summary}; zoo install {plugin.name}") for plugin in listed
    ]
