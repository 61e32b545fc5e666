"""Diagnose this machine: what a model needs to be built and run here, what is there, and what mends what is not."""

from __future__ import annotations

from collections.abc import Iterator

from zoo.declarations.plan import Plan
from zoo.declarations.recipe import Precision
from zoo.errors import ZooError
from zoo.package.store import output_folder
from zoo.plugins import Host
from zoo.registry import DeclaredFamily, Registry
from zoo.sources.declared import DeclaredCheckpoint
from zoo.stages.choices import check_precision
from zoo.stages.doctor import hardware, software
from zoo.stages.doctor import weights as places
from zoo.stages.doctor.findings import Diagnosis, Finding
from zoo.stages.plan import plan
from zoo.stages.resolve import Request, Resolved, claimed_family, resolve
from zoo.stages.subject import identify
from zoo.stages.weights import open_here

__all__ = ["Diagnosis", "Finding", "diagnose", "pinned_requirements"]


def diagnose(
    host: Host,
    model: str | None = None,
    target: str = "ort",
    *,
    precision: str | None = None,
    weights: str | None = None,
) -> Diagnosis:
    """Look at everything that building MODEL for a target, and running it, needs here; nothing is downloaded.

    Without a model: what any build needs.

    Raises:
        UsageError: an unknown model, target or precision.
        ZooError: the model cannot be built anywhere: a declaration that its checkpoint contradicts, a broken rule.
    """
    return Diagnosis(findings=tuple(_findings(host, model, target, precision, weights)))


def _findings(
    host: Host, model: str | None, target: str, precision: str | None, weights: str | None
) -> Iterator[Finding]:
    registry = host.registry
    part = registry.target(target)
    if model is None:
        chosen: tuple[Precision, ...] = tuple(part.precisions) if precision is None else (check_precision(precision),)
        yield from software.python_and_packages()
        yield from hardware.cpu()
        yield from hardware.kernels(registry, target, None, chosen)
        yield from places.token()
        yield from software.plugins(host, None)
        yield from software.tools(registry, target, needed=False)
        return
    request = Request(model=model, precision=precision or "int8", weights=weights, target=target)
    resolved = resolve(registry, request, fetch=False)
    recipe = resolved.recipe
    family = registry.families.get(recipe.family) if recipe.family is not None else None
    yield from software.python_and_packages()
    if family is not None:
        yield from software.tested_versions(family.family.tested_versions, model)
    yield from hardware.kernels(registry, target, recipe.architecture, [recipe.precision])
    if part.needs_weights:
        yield from hardware.cpu()
        planned = expected_plan(registry, resolved)
        yield from hardware.memory(planned, model)
        yield from hardware.disk(planned, places.cache_folder())
    yield from places.weights(resolved, model, needed=part.needs_weights)
    yield from places.token()
    yield from software.plugins(host, family.plugin if family is not None else None)
    yield from software.tools(registry, target, needed=True)


def expected_plan(registry: Registry, resolved: Resolved) -> Plan:
    """Plan a build from the checkpoint's headers, or, where it is not here, as if it were float16."""
    folder = output_folder(resolved.recipe)
    if resolved.checkpoint is not None and resolved.checkpoint.tensors:
        return plan(resolved.recipe, resolved.checkpoint, registry, folder)
    architecture = resolved.recipe.architecture
    shapes = registry.architecture(architecture.type).tensors(architecture)
    declared = DeclaredCheckpoint.of(shapes.items(), resolved.source.name)
    return plan(resolved.recipe, declared, registry, folder, download_bytes=declared.download_bytes)


def pinned_requirements(registry: Registry, model: str) -> list[str]:
    """List ``package==version`` for each package that the model's family was tested with.

    Raises:
        ZooError: no family is known, or its declaration states no versions.
    """
    family = _family_of(registry, model)
    if family is None or not family.family.tested_versions:
        raise ZooError(f"no declaration states the versions that {model} was tested with")
    return [f"{package}=={version}" for package, version in family.family.tested_versions.items()]


def _family_of(registry: Registry, model: str) -> DeclaredFamily | None:
    subject = identify(registry, model)
    if subject.family is not None:
        return subject.family
    if subject.package is not None:
        from zoo.package import read_manifest

        return registry.families.get(read_manifest(subject.package).recipe.family or "")
    checkpoint = open_here(registry, subject)
    return claimed_family(registry, checkpoint) if checkpoint is not None else None
