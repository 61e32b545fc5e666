"""Describe one model: everything resolved, each value with where it came from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import JsonValue

from zoo.contracts import Checkpoint
from zoo.declarations.architecture import Architecture
from zoo.declarations.base import Value
from zoo.declarations.family import Tokens
from zoo.errors import ZooError
from zoo.package.chat_defaults import ChatDefaults
from zoo.package.folder import open_package, read_manifest
from zoo.package.hashes import stated_contents
from zoo.package.store import StoredPackage
from zoo.registry import DeclaredModel, Registry
from zoo.reports import is_verified, verification
from zoo.results import all_reports, ladder, note_of
from zoo.stages.choices import check_options
from zoo.stages.listing import parameter_count, precisions
from zoo.stages.resolve import (
    resolve_architecture,
    resolve_licence,
)
from zoo.stages.storage import describe_storage
from zoo.stages.subject import Subject, find_packages, identify
from zoo.stages.tokens import resolve_tokens
from zoo.stages.weights import open_here, transformed


class Field(Value):
    """A value and its origin."""

    value: JsonValue
    origin: str
    """``family NAME``, ``model NAME``, ``config.json``, ``default``, ``computed``, or the plugin that brought it."""


class Description(Value):
    """All that is known of a model before it is built."""

    model: str
    family: str | None
    fields: dict[str, dict[str, Field]]
    """Section → field → value and origin."""
    format: str | None = None
    """Of a checkpoint: what its weights are stored in, as ``Storage`` says it."""
    quantization: str | None = None
    taken_over: int | None = None
    rounded: int | None = None


def describe(registry: Registry, text: str) -> Description:
    """Describe a declared model, or an undeclared checkpoint."""
    subject = identify(registry, text)
    if subject.package is not None:
        return _package(subject.package)
    if subject.declared is not None:
        return _declared(registry, subject.declared, subject)
    return _checkpoint(registry, subject)


def find_architecture(registry: Registry, text: str) -> tuple[str, Architecture]:
    """Find the name and the numbers of a model, a package or a checkpoint; of a declared model, as declared.

    Raises:
        ZooError: it is not declared and its files are not on this machine.
    """
    subject = identify(registry, text)
    if subject.package is not None:
        return subject.label, open_package(subject.package).manifest.recipe.architecture
    if subject.declared is not None:
        return subject.label, subject.declared.architecture
    return subject.label, resolve_architecture(registry, None, _open(registry, subject))


def _jsonable(value: Any) -> Any:
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json", exclude_none=True)
    return list(value) if isinstance(value, tuple) else value


def _architecture_fields(architecture: Architecture, origins: dict[str, str]) -> dict[str, Field]:
    fields = {}
    for name in Architecture.model_fields:
        if name == "options" and not architecture.options:
            continue
        derived = name in ("num_key_value_heads", "head_dim")
        origin = origins.get(name) or ("computed" if derived else "default")
        fields[name] = Field(value=_jsonable(getattr(architecture, name)), origin=origin)
    fields["attention"] = Field(value=architecture.attention, origin="computed")
    context, scaling = architecture.context_length, architecture.rope_scaling
    if scaling is not None and (divisors := scaling.divisors(context)) is not None:
        which = "short_factor" if divisors is scaling.short_factor else "long_factor"
        fields["rope_factors"] = Field(value=f"{which}, for {context} tokens", origin="computed")
    return fields


def _counts(architecture: Architecture, parameters: int) -> dict[str, Field]:
    counts = {"parameters": parameters}
    if architecture.idle_parameters:
        counts["active_parameters"] = parameters - architecture.idle_parameters
    return {name: Field(value=count, origin="computed") for name, count in counts.items()}


def _declared(registry: Registry, model: DeclaredModel, subject: Subject) -> Description:
    sections = declared_fields(registry, model, parameter_count(registry, model))
    packages = {
        package.path.name: Field(
            value=f"{package.precision} for {package.target}{_verification(package)}", origin=package.recipe_hash[:12]
        )
        for package in find_packages(model, subject.label)
    }
    sections |= {"packages": packages} if packages else {}
    rungs = ladder(model, all_reports(registry))
    sections |= {"results": {"ladder": Field(value=" → ".join(rungs), origin="zoo report")}}
    return Description(model=model.full_name, family=model.family.name, fields=sections)


_LENT = frozenset({"pretraining_tokens", "chat"})
"""What a base of another family lends with its numbers."""


def declared_fields(registry: Registry, model: DeclaredModel, parameters: int) -> dict[str, dict[str, Field]]:
    """Collect all that the declarations say of a model, by section; nothing of it depends on this machine.

    Args:
        parameters: as ``parameter_count`` counts them.
    """
    family, own = model.family, f"model {model.name}"
    in_family = f"family {family.name}"
    about: dict[str, Field] = {}
    for name in ("title", "organisation", "summary", "pretraining_tokens", "chat", "note", "source", "homepage"):
        value, origin = model.last(name) if name in _LENT else model.of_its_maker(name)
        if value is not None and origin is not None:
            about[name] = Field(value=value, origin=origin)
    about["papers"] = Field(value=[_jsonable(paper) for paper in family.papers], origin=in_family)
    about["notes"] = Field(value=list(family.notes), origin=in_family)
    if (measured := note_of(model)) is not None:
        about["measured"] = Field(value=measured, origin="its results")
    about["plugin"] = Field(value=model.declared_in.plugin, origin="computed")
    tokens = model.tokens
    use, use_origin = model.last("embedding")
    sections = {
        "about": about,
        "licence": _object(model.licence, model.origin("licence") or in_family),
        "weights": _object(model.model.weights, own),
        "architecture": _architecture_fields(
            model.architecture, {name: origin for name, (_, origin) in model.stated.items()}
        )
        | _counts(model.architecture, parameters),
        **({"embedding": _object(use, use_origin or in_family)} if use is not None else {}),
        "tokens": {
            name: Field(value=_plain(getattr(tokens, name)), origin=model.token_origin(name) or "checkpoint")
            for name in Tokens.model_fields
            if getattr(tokens, name) is not None
        },
        "chat_template": {
            "chat_template": Field(value=model.chat_template, origin=model.origin("chat_template") or "checkpoint")
        },
        "datasets": {
            purpose: Field(value=[_jsonable(use) for use in uses], origin=in_family)
            for purpose, uses in (
                ("calibration", family.datasets.calibration),
                ("performance", family.datasets.performance),
                ("accuracy", family.datasets.accuracy),
            )
            if uses
        },
        "tested_versions": {
            name: Field(value=version, origin=in_family) for name, version in family.tested_versions.items()
        },
        **_targets(registry, model),
    }
    return {name: fields for name, fields in sections.items() if fields}


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _object(value: Any, origin: str) -> dict[str, Field]:
    return {name: Field(value=item, origin=origin) for name, item in _jsonable(value).items()}


def _targets(registry: Registry, model: DeclaredModel) -> dict[str, dict[str, Field]]:
    """Show each target's options and what it means by each precision."""
    sections: dict[str, dict[str, Field]] = {}
    for name in registry.targets:
        stated = model.target_options(name)
        try:
            target = registry.target(name)
            checked = check_options(f"target {name!r}", target.Options, stated, model.architecture, stated)
        except ZooError as error:  # one target that cannot be used hides nothing of the others
            sections[f"target {name}"] = {"problem": Field(value=str(error), origin="computed")}
            continue
        options = checked.model_dump(mode="json")
        fields = {
            option: Field(value=value, origin=(model.target_origin(name, option) or f"target {name}"))
            for option, value in options.items()
        }
        built_here = precisions(registry, model, name)
        for precision, quantizer in target.precisions.items():
            if precision not in built_here:
                continue
            fields[precision] = Field(value=f"quantizer {quantizer}", origin=f"target {name}")
        sections[f"target {name}"] = fields
    return sections


def _verification(package: StoredPackage) -> str:
    """Say whether a build was held against its reference, and how that ended."""
    report = verification(package.recipe_hash, package.contents)
    if report is None:
        return ""
    outcome = "verified" if report.passed else "past the tolerance of its verification"
    return f", {outcome} {report.measured_at:%Y-%m-%d}{' (quick)' if report.settings.get('quick') else ''}"


def _package(folder: Path) -> Description:
    """Describe a package by its manifest."""
    manifest = read_manifest(folder)
    recipe = manifest.recipe
    made = {
        "recipe_hash": manifest.recipe_hash,
        "precision": recipe.precision,
        "target": recipe.target.name,
        "quantizer": recipe.quantizer.name,
        "parameters": manifest.parameters,
        "bits_per_weight": manifest.bits_per_weight,
        "bytes": sum(record.size for record in manifest.files.values()),
        "verified": is_verified(manifest.recipe_hash, stated_contents(manifest)),
    }
    sections = {
        "package": {name: Field(value=value, origin="zoo.json") for name, value in made.items()},
        "licence": _object(recipe.licence, "recipe"),
        "weights": _object(recipe.weights, "recipe"),
        "architecture": _object(recipe.architecture, "recipe")
        | {"attention": Field(value=recipe.architecture.attention, origin="computed")},
        "tokens": _object(recipe.tokens, "recipe"),
        "sampling": _sampling(folder),
        "quantizer": _object(recipe.quantizer, "recipe"),
        "target": _object(recipe.target, "recipe"),
        "versions": {name: Field(value=version, origin="zoo.json") for name, version in manifest.versions.items()},
    }
    return Description(model=folder.resolve().name, family=recipe.family, fields=sections)


def _sampling(folder: Path) -> dict[str, Field]:
    """Say how conversations are sampled where nothing else is asked for."""
    defaults = ChatDefaults.of_package(folder)
    return {
        name: Field(value=value, origin="generation_config.json" if name in defaults.fields else "default")
        for name, value in defaults.with_options().items()
    }


def _open(registry: Registry, subject: Subject) -> Checkpoint:
    checkpoint = open_here(registry, subject)
    if checkpoint is None:
        raise ZooError(f"{subject.label} is not declared and its files are not on this machine; fetch it first")
    return transformed(registry, checkpoint)


def _checkpoint(registry: Registry, subject: Subject) -> Description:
    checkpoint = _open(registry, subject)
    architecture = resolve_architecture(registry, None, checkpoint)
    claimant = registry.claimant(str(checkpoint.config.get("model_type")))
    parameters = registry.architecture(architecture.type).parameter_count(architecture)
    tokens = resolve_tokens(None, checkpoint, architecture.vocab_size)
    sections = {
        "licence": _object(resolve_licence(None, checkpoint), "README.md"),
        "architecture": _architecture_fields(architecture, dict.fromkeys(checkpoint.config, "config.json"))
        | _counts(architecture, parameters),
        "tokens": {
            name: Field(value=value, origin="config.json")
            for name, value in tokens.model_dump(mode="json").items()
            if value not in (None, [])
        },
    }
    family = claimant.family.name if claimant else None
    stored = describe_storage(checkpoint).model_dump()
    return Description(model=subject.label, family=family, fields=sections, **stored)
