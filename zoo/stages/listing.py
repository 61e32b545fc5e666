"""List the declared models, with what is known of each."""

from __future__ import annotations

import fnmatch

from pydantic import Field

from zoo.declarations.architecture import Attention
from zoo.declarations.base import Value
from zoo.operations import missing
from zoo.package.store import StoredPackage, stored_packages
from zoo.registry import DeclaredModel, Registry
from zoo.reports import is_verified

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
    registry: Registry, pattern: str = "*", family: str | None = None, *, built_only: bool = False
) -> list[ModelEntry]:
    """List declared models whose name, or ``family/name``, matches a glob."""
    built = stored_packages()
    entries = []
    for model in registry.models():
        if not any(fnmatch.fnmatchcase(name.lower(), pattern.lower()) for name in (model.name, model.full_name)):
            continue
        if family is not None and not fnmatch.fnmatchcase(model.family.name, family):
            continue
        mine = tuple(one for one in built if one.model == model.name and one.family == model.family.name)
        if built_only and not mine:
            continue
        entries.append(
            ModelEntry(
                name=model.name,
                family=model.family.name,
                parameters=parameter_count(registry, model),
                attention=model.architecture.attention,
                context_length=model.architecture.context_length,
                licence=model.licence.id,
                precisions=precisions(registry, model),
                built=tuple(dict.fromkeys(one.precision for one in mine)),
                verified=_verified(mine),
            )
        )
    return entries


def _verified(packages: tuple[StoredPackage, ...]) -> tuple[str, ...]:
    passed = {one.precision: True for one in packages}
    for one in packages:
        passed[one.precision] &= is_verified(one.recipe_hash, one.contents)
    return tuple(precision for precision, good in passed.items() if good)
