"""Resolve a request into a recipe: weights, numbers, tokens, precision, quantizer and target, pinned."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.declarations.architecture import Architecture
from zoo.declarations.licence import UNKNOWN_LICENCE, Licence
from zoo.declarations.recipe import (
    Recipe,
    TargetChoice,
    TokenIds,
    WeightsPin,
)
from zoo.declarations.traits import Trait, fields_with
from zoo.errors import UsageError, ZooError
from zoo.registry import DeclaredFamily, DeclaredModel, Registry
from zoo.stages.choices import check_mixed, check_precision, choose_calibration, choose_quantizer, target_options
from zoo.stages.request import Request as Request
from zoo.stages.subject import Subject, checkpoint_folder, identify, is_hub_id, lies_in_folder

if TYPE_CHECKING:
    from zoo.contracts import Checkpoint

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


def resolve(registry: Registry, request: Request, *, fetch: bool = True, headers_only: bool = False) -> Resolved:
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
    if request.revision is not None and lies_in_folder(subject, request.weights):
        raise UsageError(f"{subject.label}: its weights are a folder, which has no revision {request.revision!r}")
    if headers_only and target.needs_weights:
        checkpoint = open_headers(subject, request) or open_weights(subject, request, required=True)
    else:
        checkpoint = open_weights(subject, request, required=target.needs_weights and fetch)
    if checkpoint is None and subject.declared is None:
        raise ZooError(
            f"{subject.label} is not declared, its config.json is not on this machine and the network is off; "
            f"with the network on: zoo fetch {request.model}"
        )
    family = subject.family or (claimed_family(registry, checkpoint) if checkpoint is not None else None)
    architecture = resolve_architecture(registry, subject.declared, checkpoint)
    if architecture.type not in target.architectures:
        raise ZooError(f"target {request.target!r} does not serve the architecture {architecture.type!r}")
    quantizer = choose_quantizer(registry, request, precision)
    recipe = Recipe(
        model=subject.declared.name if subject.declared else subject.label,
        family=family.family.name if family else None,
        licence=resolve_licence(subject.declared, checkpoint),
        weights=pin_weights(subject, request, checkpoint),
        architecture=architecture,
        tokens=resolve_tokens(subject.declared, checkpoint),
        chat_template=subject.declared.chat_template if subject.declared else None,
        precision=precision,
        quantizer=quantizer,
        allow_nonfinite=request.allow_nonfinite,
        calibration=choose_calibration(registry, request, quantizer, family),
        target=TargetChoice(
            name=request.target,
            options=target_options(registry, request, subject.declared, family, architecture),
            emitter_version=target.emitter_version,
        ),
    )
    target.check(recipe)
    return Resolved(recipe, checkpoint, subject, weights_source(subject, request, checkpoint))


def open_weights(subject: Subject, request: Request, *, required: bool) -> Checkpoint | None:
    """Open the checkpoint that a request means; None where there is none and none is needed."""
    folder = checkpoint_folder(subject, request.weights, request.revision, required=required)
    if folder is None:
        repository = request.weights if request.weights and is_hub_id(request.weights) else subject.hub
        # Nobody declared its numbers, so the repository's own configuration is needed, but no weights.
        return hub_configuration(repository, request.revision) if repository is not None and not required else None
    if not required and not holds_weights(folder):
        from zoo.sources.configonly import ConfigOnly

        return ConfigOnly(folder)
    from zoo.sources.folder import open_folder

    return open_folder(folder)


def open_headers(subject: Subject, request: Request) -> Checkpoint | None:
    """Open weights on the hub by their headers; None where they lie in a folder."""
    if checkpoint_folder(subject, request.weights, request.revision, required=False) is not None:
        return None
    from zoo.sources.hub_remote import remote_checkpoint

    source = weights_source(subject, request, None)
    licence = subject.declared.licence if subject.declared else None
    return remote_checkpoint(str(source.hub), source.revision or "main", licence=licence)


def hub_configuration(repository: str, revision: str | None) -> Checkpoint | None:
    """Bring a repository's small files alone; None with the network off."""
    from zoo.sources import hub
    from zoo.sources.configonly import ConfigOnly
    from zoo.sources.repository import inspect

    if hub.is_offline():
        return None
    remote = inspect(repository, revision or "main", hub.storage_folder(repository))
    hub.bring_companions(remote)
    return ConfigOnly(remote.snapshot, repository)


def holds_weights(folder: Path) -> bool:
    """Tell whether a folder holds files of weights, whatever their format."""
    return any(name.suffix in (".safetensors", ".bin", ".pt", ".pth") for name in folder.iterdir())


def claimed_family(registry: Registry, checkpoint: Checkpoint) -> DeclaredFamily:
    """Find the family that speaks for an undeclared checkpoint."""
    model_type = checkpoint.config.get("model_type")
    family = registry.claimant(str(model_type))
    if family is None:
        claims = sorted(claim for one in registry.families.values() for claim in one.family.claims)
        known = f"claimed are {', '.join(claims)}" if claims else "no loaded plugin claims any"
        raise ZooError(f"{checkpoint.name}: no family claims model_type {model_type!r} of its config.json; {known}")
    return family


def resolve_architecture(
    registry: Registry, declared: DeclaredModel | None, checkpoint: Checkpoint | None
) -> Architecture:
    """Read the numbers from the checkpoint and hold the declaration against them.

    Where they shape tensors a disagreement is an error that names both; elsewhere the checkpoint wins and one warning
    names both.
    """
    if checkpoint is None:
        if declared is None:
            raise ZooError("neither a declaration nor a checkpoint says what to build")
        return declared.architecture
    kind = declared.architecture.type if declared else _architecture_type(registry, checkpoint)
    found = registry.architecture(kind).read_config(checkpoint.config, implied(registry, declared, checkpoint))
    if declared is None:
        return found
    follows = fields_with(Architecture, Trait.IMPLIED)
    # Another computation is said before the numbers that come with it.
    for name, (_, origin) in sorted(declared.stated.items(), key=lambda one: (one[0] not in follows, one[0])):
        value, actual = getattr(declared.architecture, name), getattr(found, name)
        if name == "type" or actual == value:
            continue
        if name in follows:
            raise ZooError(
                f"{declared.name}: {origin} declares {name} {value}, but {checkpoint.name} is of model_type "
                f"{str(checkpoint.config.get('model_type'))!r}, which means {actual}"
            )
        if name in fields_with(Architecture, Trait.SHAPES):
            raise ZooError(
                f"{declared.name}: {origin} declares {name} {value}, but config.json of {checkpoint.name} says {actual}"
            )
        log.warning(
            "%s: %s declares %s %s; config.json of %s says %s, which is used",
            declared.name, origin, name, value, checkpoint.name, actual,
        )  # fmt: skip
    return found


def implied(registry: Registry, declared: DeclaredModel | None, checkpoint: Checkpoint) -> dict[str, Any]:
    """Say what a checkpoint's ``config.json`` leaves unsaid: what claims its ``model_type``, or what is declared."""
    model_type = str(checkpoint.config.get("model_type"))
    family = registry.claimant(model_type)
    claim = family.family.claim(model_type) if family is not None else None
    if claim is not None:
        fields: dict[str, Any] = claim.model_dump(exclude_unset=True)
        return fields
    stated = declared.stated if declared is not None else {}
    unsaid = fields_with(Architecture, Trait.IMPLIED) + fields_with(Architecture, Trait.WINDOW)
    return {name: stated[name][0] for name in unsaid if name in stated}


def _architecture_type(registry: Registry, checkpoint: Checkpoint) -> str:
    fields: Any = claimed_family(registry, checkpoint).family.architecture
    return str(fields.type or "decoder")


def resolve_tokens(declared: DeclaredModel | None, checkpoint: Checkpoint | None) -> TokenIds:
    """Take special token ids from the checkpoint, and from the declaration what it lacks or overrides."""
    own = checkpoint_tokens(checkpoint) if checkpoint is not None else TokenIds()
    if declared is None:
        return own
    tokens, result = declared.tokens, own.model_dump()
    for name in tokens.model_fields_set & own.model_fields_set | tokens.model_fields_set - {"override"}:
        value, actual = getattr(tokens, name), getattr(own, name)
        if value is None or value == actual:
            continue
        if actual in (None, ()):
            result[name] = value
        elif tokens.override:
            log.warning(
                "%s: %s %s replaces the checkpoint's %s: %s",
                declared.name, name, _ids(value), _ids(actual), tokens.override,
            )  # fmt: skip
            result[name] = value
        else:
            log.warning(
                "%s: declared %s %s; the checkpoint says %s, which is used",
                declared.name, name, _ids(value), _ids(actual),
            )  # fmt: skip
    return TokenIds.model_validate(result)


def _ids(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def checkpoint_tokens(checkpoint: Checkpoint) -> TokenIds:
    """Read special token ids as generation uses them: ``generation_config.json`` first, then ``config.json``."""
    from zoo.sources.companions import GENERATION, MAX_CONFIG
    from zoo.sources.jsonfile import read_object

    sources: list[Mapping[str, Any]] = [checkpoint.config]
    generation = checkpoint.path(GENERATION)
    if generation is not None:
        sources.insert(0, read_object(generation, MAX_CONFIG, f"{checkpoint.name}/{GENERATION}"))
    vocab_size = checkpoint.config.get("vocab_size")
    result: dict[str, Any] = {}
    for name in TokenIds.model_fields:
        for source in sources:
            value = source.get(name)
            ids = value if isinstance(value, list) else [] if value is None else [value]
            if not all(isinstance(one, int) and not isinstance(one, bool) for one in ids):
                raise ZooError(
                    f"{checkpoint.name}: {name} must be a token id or a list of them, not {repr(value)[:60]}"
                )
            # -1 means "none" in older files.
            ids = [one for one in ids if one >= 0]
            if ids:
                if isinstance(vocab_size, int) and max(ids) >= vocab_size:
                    raise ZooError(f"{checkpoint.name}: {name} {max(ids)} is not below vocab_size {vocab_size}")
                result[name] = tuple(ids) if name == "eos_token_id" else ids[0]
                break
    return TokenIds.model_validate(result)


def resolve_licence(declared: DeclaredModel | None, checkpoint: Checkpoint | None) -> Licence:
    """Take the declared licence, or what an undeclared checkpoint's own page states."""
    if declared is not None:
        return declared.licence
    stated = checkpoint_licence(checkpoint) if checkpoint is not None else None
    return Licence(id=stated) if stated else UNKNOWN_LICENCE


def checkpoint_licence(checkpoint: Checkpoint) -> str | None:
    """Read ``license`` from the metadata block at the head of a checkpoint's ``README.md``."""
    page = checkpoint.path("README.md")
    if page is None:
        return None
    with page.open("rb") as file:
        text = file.read(65536).decode("utf-8", "replace")
    if not text.startswith("---"):
        return None
    for line in text.splitlines()[1:]:
        if line.startswith("---"):
            return None
        key, _, value = line.partition(":")
        if key == "license" and value.strip():
            return value.strip().strip("\"'")[:100]
    return None


def pin_weights(subject: Subject, request: Request, checkpoint: Checkpoint | None) -> WeightsPin:
    """Pin the weights by what they are, never by where they lie."""
    declared_hub = subject.declared.model.weights.hub if subject.declared else None
    hub = request.weights if request.weights and is_hub_id(request.weights) else subject.hub or declared_hub
    if request.weights and not is_hub_id(request.weights):
        hub = None
    if checkpoint is None:
        revision = request.revision or (subject.declared.model.weights.revision if subject.declared else None)
        return WeightsPin(hub=hub, revision=revision)
    # A hub's revision is what it was when the files came: the commit.
    return WeightsPin(hub=hub, revision=commit_of(checkpoint) if hub else None, fingerprint=checkpoint.fingerprint)


def commit_of(checkpoint: Checkpoint) -> str | None:
    """Say which commit of a hub repository a checkpoint is; None where nothing says it."""
    commit: str | None = getattr(checkpoint, "commit", None)
    folder = getattr(checkpoint, "folder", None)
    if commit is None and isinstance(folder, Path) and folder.resolve().parent.name == "snapshots":
        commit = folder.resolve().name
    return commit


def weights_source(subject: Subject, request: Request, checkpoint: Checkpoint | None) -> WeightsSource:
    """Say where the weights come from, on the hub and on this machine."""
    declared = subject.declared.model.weights if subject.declared else None
    hub = subject.hub or (declared.hub if declared else None)
    revision = request.revision or (declared.revision if declared else "main")
    if request.weights is not None:
        hub, revision = (request.weights if is_hub_id(request.weights) else None), request.revision or "main"
    folder = None
    if checkpoint is not None:
        folder = checkpoint_folder(subject, request.weights, request.revision, required=False)
    return WeightsSource(hub, revision, folder)
