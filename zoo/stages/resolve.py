"""Resolve a request into a recipe: weights, numbers, tokens, precision, quantizer and target, pinned."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zoo.contracts import Checkpoint, block_scheme, reads_weights
from zoo.declarations.architecture import Architecture
from zoo.declarations.dtypes import BY_NAME
from zoo.declarations.licence import UNKNOWN_LICENCE, Licence
from zoo.declarations.recipe import Precision, QuantizerChoice, Recipe, TargetChoice, TokenIds, WeightsPin
from zoo.declarations.traits import Trait, fields_with
from zoo.errors import UsageError, ZooError
from zoo.operations import missing
from zoo.registry import UNCONFIRMED, DeclaredFamily, DeclaredModel, Registry
from zoo.sources.content import settled_digest
from zoo.stages.adapters import adapted, refuse_adapters
from zoo.stages.choices import check_mixed, check_precision, choose_calibration, choose_quantizer, target_options
from zoo.stages.locations import Location
from zoo.stages.reading import MULTIMODAL, as_meant, without_leftovers
from zoo.stages.request import Request as Request
from zoo.stages.smoothing import choose_bits, choose_smoothing
from zoo.stages.subject import Subject, identify
from zoo.stages.tokens import resolve_tokens
from zoo.stages.weights import licence_of, locate_weights, open_location_here, transformed
from zoo.terminal import command_line

log = logging.getLogger("zoo")


@dataclass(frozen=True)
class WeightsSource:
    """Where weights come from, for messages and for other tools; it does not enter the recipe."""

    hub: str | None
    revision: str
    folder: Path | None
    """Where they are on this machine, if they are."""

    @property
    def name(self) -> str:
        """The last part of the hub id, or the folder's own name."""
        if self.hub is not None:
            return self.hub.rsplit("/", 1)[-1]
        return (self.folder.resolve().name if self.folder else "") or "model"


@dataclass(frozen=True)
class Resolved:
    """A recipe, and the opened weights it was pinned from (None for a target that needs none)."""

    recipe: Recipe
    checkpoint: Checkpoint | None
    subject: Subject
    source: WeightsSource


def resolve(
    registry: Registry,
    request: Request,
    *,
    fetch: bool = True,
    headers_only: bool = False,
) -> Resolved:
    """Pin everything that decides the output.

    Args:
        fetch: download weights that the target needs and this machine lacks; without, the recipe is pinned as far as
            the declaration goes.
        headers_only: read the headers of weights that are not on this machine over the network instead of downloading
            them: enough to plan a build, not to make it.

    Raises:
        UsageError: an unknown model, precision, quantizer, target or option.
        ZooError: the weights are not there, or contradict the declaration.
    """
    target = registry.target(request.target)
    precision = check_precision(request.precision)
    check_mixed(request)
    if precision not in target.precisions:
        raise UsageError(f"target {request.target!r} builds {', '.join(target.precisions)}, not {precision}")
    subject = identify(registry, request.model)
    location = locate_weights(registry, subject, request.weights, request.revision)
    assert location is not None  # a subject that is not a package has its weights somewhere
    stated = subject.declared.target_options(request.target) if subject.declared is not None else {}
    reads = reads_weights(target, {**stated, **request.target_options})
    required = reads and (fetch or headers_only)
    checkpoint: Checkpoint | None = None
    if required:
        checkpoint = location.open(registry, licence=licence_of(subject))
    else:
        checkpoint = open_location_here(registry, subject, location, named=request.weights is not None)
    if checkpoint is not None:
        checkpoint = transformed(registry, checkpoint, request.transforms)
    if checkpoint is not None and required:
        checkpoint = without_leftovers(adapted(request, subject.declared, checkpoint))
    elif not reads:
        refuse_adapters(request, subject.declared)
    if checkpoint is None and subject.declared is None:
        raise ZooError(
            f"{subject.label} is not declared, its config.json is not on this machine and the network is off; "
            f"with the network on: {command_line('zoo', 'fetch', request.model)}"
        )
    family = subject.family or (claimed_family(registry, checkpoint) if checkpoint is not None else None)
    architecture = resolve_architecture(registry, subject.declared, checkpoint)
    architecture = serving(architecture, request.context)
    if lacks := missing(registry.architecture(architecture.type), architecture, target):
        raise ZooError(f"target {request.target!r} does not support: {', '.join(lacks)}")
    quantizer = choose_quantizer(registry, request, precision)
    if checkpoint is not None and required and not (headers_only and checkpoint.tensors):
        checkpoint = checkpoint.bring()
    if checkpoint is not None and required:
        part, allowed = registry.architecture(architecture.type), request.allow_unused
        architecture, checkpoint = as_meant(part, architecture, checkpoint, allowed, read=not headers_only)
    known = ModelFacts(
        subject,
        family,
        architecture,
        resolve_licence(subject.declared, checkpoint),
        pin_weights(location, checkpoint, read=required and not headers_only),
        resolve_tokens(subject.declared, checkpoint, architecture.vocab_size),
    )
    dtype = stored_type(checkpoint if required else None)
    options = target_options(registry, request, subject.declared, family, architecture, dtype)
    recipe = make_recipe(registry, request, known, precision, quantizer, options)
    return Resolved(recipe, checkpoint, subject, weights_source(location, checkpoint))


@dataclass(frozen=True)
class ModelFacts:
    """What is known of a model before a precision and a target are chosen."""

    subject: Subject
    family: DeclaredFamily | None
    architecture: Architecture
    licence: Licence
    weights: WeightsPin
    tokens: TokenIds


def declared_facts(registry: Registry, declared: DeclaredModel, *, look: bool = True) -> ModelFacts:
    """Collect the facts of a declared model, checked against its weights where these are on this machine.

    Args:
        look: without, no weights are looked at, whatever is on this machine.

    Raises:
        ZooError: the weights that are here contradict the declaration.
    """
    subject = Subject(declared.name, declared=declared)
    location = locate_weights(registry, subject, None, None)
    assert location is not None  # a declared model has its weights somewhere
    checkpoint = open_location_here(registry, subject, location) if look else None
    if checkpoint is not None:
        checkpoint = transformed(registry, checkpoint)
    architecture = resolve_architecture(registry, declared, checkpoint)
    return ModelFacts(
        subject,
        declared.declared_in,
        architecture,
        declared.licence,
        WeightsPin(hub=location.hub, revision=location.revision),
        resolve_tokens(declared, checkpoint, architecture.vocab_size),
    )


def pin_declared(
    registry: Registry, model: DeclaredModel, target: str, precision: Precision, known: ModelFacts | None = None
) -> Recipe:
    """Pin a build as far as the declaration goes, whatever is on this machine, for a target that lacks nothing of it.

    Args:
        known: what ``declared_facts`` collects without a look at weights, for callers that pin several builds.

    Raises:
        ZooError: the target refuses it.
    """
    known = known or declared_facts(registry, model, look=False)
    request = Request(model=model.full_name, precision=precision, target=target)
    if not reads_weights(registry.target(target), model.target_options(target)):
        refuse_adapters(request, model)
    quantizer = choose_quantizer(registry, request, precision)
    options = target_options(registry, request, model, known.family, known.architecture)
    return make_recipe(registry, request, known, precision, quantizer, options)


def make_recipe(
    registry: Registry,
    request: Request,
    known: ModelFacts,
    precision: Precision,
    quantizer: QuantizerChoice,
    options: Mapping[str, Any],
) -> Recipe:
    """Choose what a request leaves open, for a model that is known, and let the target check it.

    Args:
        options: the target's, checked by its own model.

    Raises:
        UsageError: calibration data or rescaling that is not possible here.
        ZooError: the target's rules refuse it.
    """
    target, declared = registry.target(request.target), known.subject.declared
    quantizer = choose_bits(registry, request, precision, quantizer, known.architecture)
    calibration = choose_calibration(registry, request, quantizer, known.family)
    if calibration is not None and known.architecture.num_experts is not None:
        calibration = calibration.model_copy(update={"experts": "apart"})
    recipe = Recipe(
        model=declared.name if declared else known.subject.label,
        family=known.family.family.name if known.family else None,
        licence=known.licence,
        weights=known.weights,
        architecture=known.architecture,
        tokens=known.tokens,
        chat_template=declared.chat_template if declared else None,
        precision=precision,
        quantizer=quantizer,
        allow_nonfinite=request.allow_nonfinite,
        allow_unused=tuple(request.allow_unused),
        calibration=calibration,
        smoothing=choose_smoothing(registry, request, precision, quantizer, known.architecture),
        target=TargetChoice(
            name=request.target,
            options=dict(options),
            emitter_version=target.emitter_version,
        ),
    )
    target.check(recipe)
    return recipe


def stored_type(checkpoint: Checkpoint | None) -> str | None:
    """Name the 16-bit type that a checkpoint's weights are kept in; float16 for float32; None where none is opened."""
    if checkpoint is None or not checkpoint.tensors:
        return None
    sizes: Counter[str] = Counter()
    for name, info in checkpoint.tensors.items():
        blocks = block_scheme(checkpoint, name)  # floats of 32 bits here, of the type of their scales where they lie
        sizes[BY_NAME[blocks.scale_type].code if blocks else info.dtype] += info.nbytes
    return "bfloat16" if sizes.most_common(1)[0][0] == "BF16" else "float16"


def claimed_family(registry: Registry, checkpoint: Checkpoint) -> DeclaredFamily:
    """Find the family that speaks for an undeclared checkpoint."""
    model_type = checkpoint.config.get("model_type")
    family = registry.claimant(str(model_type))
    if family is None:
        claims = sorted(claim for declared in registry.families.values() for claim in declared.family.claims)
        known = f"claimed are {', '.join(claims)}" if claims else "no loaded plugin claims any"
        for key in MULTIMODAL:
            if key in checkpoint.config:
                raise ZooError(
                    f"{checkpoint.name}: a multimodal checkpoint (model_type {model_type!r}, {key} in config.json), "
                    "which no loaded plugin builds; save its language model alone, with a config.json of its own"
                )
        raise ZooError(f"{checkpoint.name}: no family claims model_type {model_type!r} of its config.json; {known}")
    return family


def resolve_architecture(
    registry: Registry, declared: DeclaredModel | None, checkpoint: Checkpoint | None
) -> Architecture:
    """Read the numbers from the checkpoint and hold the declaration against them.

    Where they shape tensors a disagreement is an error that names both; elsewhere, and where the declaration is not
    confirmed, the checkpoint wins and one warning names both.
    """
    if checkpoint is None:
        if declared is None:
            raise ZooError("there is neither a declaration nor a checkpoint to build from")
        return declared.architecture
    kind = declared.architecture.type if declared else _architecture_type(registry, checkpoint)
    actual_architecture = registry.architecture(kind).read_config(
        checkpoint.config, implied(registry, declared, checkpoint)
    )
    if declared is None:
        return actual_architecture
    follows = fields_with(Architecture, Trait.IMPLIED)
    # Another computation is said before the numbers that come with it.
    for name, (_, origin) in sorted(declared.stated.items(), key=lambda one: (one[0] not in follows, one[0])):
        value, actual = getattr(declared.architecture, name), getattr(actual_architecture, name)
        if name == "type" or actual == value:
            continue
        if name in follows:
            raise ZooError(
                f"{declared.name}: {origin} declares {name} {value}, but {checkpoint.name} is of model_type "
                f"{str(checkpoint.config.get('model_type'))!r}, which means {actual}"
            )
        if name in fields_with(Architecture, Trait.SHAPES) and not origin.endswith(UNCONFIRMED):
            raise ZooError(
                f"{declared.name}: {origin} declares {name} {value}, but config.json of {checkpoint.name} says {actual}"
            )
        log.warning(
            "%s: %s declares %s %s; config.json of %s says %s, which is used",
            declared.name, origin, name, value, checkpoint.name, actual,
        )  # fmt: skip
    return actual_architecture


def serving(architecture: Architecture, context: int | None) -> Architecture:
    """Build for so many tokens; None for all that the model was made for.

    Raises:
        UsageError: the model was made for fewer.
    """
    most = architecture.context_length
    if context is None or context == most:
        return architecture
    if not 1 <= context < most:
        raise UsageError(f"--context must be 1 to {most}, the model's, not {context}")
    return architecture.model_copy(update={"built_context": context})


def implied(registry: Registry, declared: DeclaredModel | None, checkpoint: Checkpoint) -> dict[str, Any]:
    """Say what a checkpoint's ``config.json`` leaves unsaid: what claims its ``model_type``, or what is declared."""
    model_type = str(checkpoint.config.get("model_type"))
    family = registry.claimant(model_type)
    claim = family.family.claim(model_type) if family is not None else None
    if claim is not None:
        fields: dict[str, Any] = claim.model_dump(exclude_unset=True)
        return fields
    stated = declared.stated if declared is not None else {}
    unsaid = [
        name for trait in (Trait.IMPLIED, Trait.CLAIMED, Trait.WINDOW) for name in fields_with(Architecture, trait)
    ]
    return {name: stated[name][0] for name in unsaid if name in stated}


def _architecture_type(registry: Registry, checkpoint: Checkpoint) -> str:
    fields: Any = claimed_family(registry, checkpoint).family.architecture
    kind = str(fields.type or "decoder")
    if checkpoint.companion("modules.json") is None:
        return kind
    from zoo.embedding.modules import read_modules

    read_modules(checkpoint.companion, checkpoint.name)  # refuses what is not supported before anything is built
    # A decoder with sentence-transformers' list of modules beside it embeds.
    return "embedder" if kind == "decoder" else kind


def resolve_licence(declared: DeclaredModel | None, checkpoint: Checkpoint | None) -> Licence:
    """Take the declared licence, or what an undeclared checkpoint's own page states."""
    if declared is not None:
        return declared.licence
    stated = checkpoint_licence(checkpoint) if checkpoint is not None else None
    return Licence(id=stated) if stated else UNKNOWN_LICENCE


def checkpoint_licence(checkpoint: Checkpoint) -> str | None:
    """Read ``license`` from the metadata block at the head of a checkpoint's ``README.md``."""
    page = checkpoint.companion("README.md")
    if page is None:
        return None
    text = page[:65536].decode("utf-8", "replace")
    if not text.startswith("---"):
        return None
    for line in text.splitlines()[1:]:
        if line.startswith("---"):
            return None
        key, _, value = line.partition(":")
        if key == "license" and value.strip():
            return value.strip().strip("\"'")[:100]
    return None


def pin_weights(location: Location, checkpoint: Checkpoint | None, *, read: bool) -> WeightsPin:
    """Pin the weights by what they are, never by where they lie.

    Args:
        read: read them in full where only that tells them from others that were built here.
    """
    if checkpoint is None:
        return WeightsPin(hub=location.hub, revision=location.revision)
    # A hub's revision is what it was when the files came: the commit.
    return WeightsPin(
        hub=location.hub,
        revision=checkpoint.revision if location.hub else None,
        digest=settled_digest(checkpoint, read=read),
        files=dict(checkpoint.checksums),
        transforms=checkpoint.transforms,
    )


def weights_source(location: Location, checkpoint: Checkpoint | None) -> WeightsSource:
    """Say where the weights come from, on the hub and on this machine."""
    folder = checkpoint.folder if checkpoint is not None else None
    return WeightsSource(location.hub, location.revision or "main", folder)
