"""Begin a plugin: from nothing, from a checkpoint, or as a fine-tune of what is declared."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import logging
import os
import re
from importlib import metadata
from pathlib import Path
from typing import Any

from zoo.contracts import Checkpoint
from zoo.declarations.architecture import Architecture
from zoo.declarations.traits import Trait, fields_with
from zoo.errors import UsageError, ZooError
from zoo.plugins import GROUP
from zoo.registry import Registry
from zoo.stages.locations import HUB, find_source, given_location
from zoo.stages.obstacles import read_supported_fields, tensor_obstacles
from zoo.stages.resolve import checkpoint_licence, implied
from zoo.stages.subject import Subject
from zoo.stages.tokens import checkpoint_tokens
from zoo.stages.weights import open_here
from zoo.tokenizer.files import read_files
from zoo.tokenizer.templates import DEFAULT, chat_templates
from zoo_scaffold.facts import Facts
from zoo_scaffold.family import family_yaml, plain
from zoo_scaffold.project import distribution_name, module_name, project_files, slug
from zoo_scaffold.tune import fine_tune_yaml

log = logging.getLogger("zoo")

_NAME = re.compile(r"^[a-z0-9][a-z0-9._-]*$")


def new_family(registry: Registry, name: str, source: str | None, output: Path) -> list[Path]:
    """Write a plugin project for a family, filled from a checkpoint where one is named.

    Raises:
        UsageError: the name is none, or is taken.
        ZooError: the folder is not empty, or the checkpoint is not one that can be built.
    """
    _check_name(name)
    if name in registry.families:
        raise UsageError(
            f"the family {name!r} is declared by plugin {registry.families[name].plugin!r}; choose another"
        )
    _require_free(name)
    _require_empty(output)
    facts = read_facts(registry, name, source) if source else Facts(name, f"{name}-7b", name.capitalize())
    files = project_files(name, family_yaml(facts))
    return [_write(output / path, text) for path, text in files.items()]


def new_fine_tune(registry: Registry, name: str, base: str, weights: str, output: Path) -> Path:
    """Write the YAML of a fine-tune.

    Raises:
        UsageError: the name is none, or nobody declared the base.
        ZooError: the file is there already.
    """
    _check_name(name)
    model = registry.model(base)
    if output.exists():
        raise ZooError(f"{output} is there already; name another with -o")
    path = Path(weights).expanduser()
    if path.exists():
        where = f"{{path: {json.dumps(os.path.relpath(path, output.parent))}}}"
    elif find_source(registry, weights) == HUB:
        where = f"{{hub: {plain(weights)}}}"
    else:
        raise UsageError(f"--weights {weights}: no such folder, and not a hub id")
    return _write(output, fine_tune_yaml(name, model.full_name, model.licence.id, where))


def read_facts(registry: Registry, name: str, source: str) -> Facts:
    """Read what a checkpoint's small files say: numbers, tokens, chat template, licence.

    Each way in which a folder's tensors are not those that the numbers make is warned of: quirks yet to be declared.
    """
    if not Path(source).expanduser().exists() and find_source(registry, source) is None:
        raise UsageError(f"--from {source}: no such folder, and not a hub id")
    location = given_location(registry, source, None, "--from")
    label = Path(source).expanduser().resolve().name if location.is_path else source.rstrip("/").split("/")[-1]
    checkpoint = open_here(registry, Subject(label, location=source))
    if checkpoint is None:
        raise ZooError(f"{source} is not on this machine and the network is off; fetch it, or name a folder")
    model_type = str(checkpoint.config.get("model_type") or "")
    claimant = registry.claimant(model_type)
    fields: Any = claimant.family.architecture if claimant else None
    kind = str(fields.type or "decoder") if fields is not None else "decoder"
    part = registry.architecture(kind)
    arch, refused = read_supported_fields(part, checkpoint.config, implied(registry, None, checkpoint))
    unlike = tensor_obstacles(part, arch, checkpoint) if location.is_path and arch is not None else []
    for line in [*refused[1:], *unlike]:
        log.warning("%s: %s", label, line)
    if arch is None or refused:
        raise ZooError(refused[0])
    return Facts(
        name=name,
        model=slug(label),
        title=label.replace("-", " ").replace("_", " "),
        organisation=source.split("/")[0] if location.hub else None,
        hub=location.hub,
        licence=checkpoint_licence(checkpoint),
        model_type=model_type or None,
        claimed=claimant is not None,
        numbers=_numbers(arch, kind),
        tokens={
            key: _one(value)
            for key, value in checkpoint_tokens(checkpoint, arch.vocab_size).model_dump().items()
            if value
        },
        chat_template=_template(checkpoint),
        source=f"config.json of {source if location.hub else label}",
    )


def _numbers(arch: Architecture, kind: str) -> dict[str, Any]:
    """Keep what shapes tensors and what is not the default."""
    numbers = {"type": kind} if kind != "decoder" else {}
    implied, shaping = (fields_with(Architecture, trait) for trait in (Trait.IMPLIED, Trait.SHAPES))
    for name, field in Architecture.model_fields.items():
        value = getattr(arch, name)
        if name in ("type", "options") or name in implied or (name == "head_dim" and _derived(arch)):
            continue
        if field.is_required() or (name in shaping and value is not False) or value != field.default:
            numbers[name] = value.model_dump(exclude_none=True) if hasattr(value, "model_dump") else value
    for name in ("rms_norm_eps", "rope_theta"):
        numbers.setdefault(name, getattr(arch, name))
    return numbers | ({"options": arch.options} if arch.options else {})


def _derived(arch: Architecture) -> bool:
    return arch.head_dim * arch.num_attention_heads == arch.hidden_size


def _one(value: Any) -> Any:
    ids = list(value) if isinstance(value, tuple | list) else value
    return ids[0] if isinstance(ids, list) and len(ids) == 1 else ids


def _template(checkpoint: Checkpoint) -> str | None:
    return chat_templates(checkpoint.companion, read_files(checkpoint.companion, checkpoint.name)).get(DEFAULT)


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise UsageError(f"{name!r} is not a name: use lower case letters, digits, dots, dashes and underscores")


def _require_free(name: str) -> None:
    """Refuse a name whose plugin, module or distribution would stand before or behind another one.

    Raises:
        UsageError: which of them is there already.
    """
    module, distribution = module_name(name), distribution_name(name)
    for point in metadata.entry_points(group=GROUP):
        taken = point.value.partition(":")[0].strip()
        if point.name == name or taken.partition(".")[0] == module:
            raise UsageError(f"the plugin {point.name!r} is installed already (module {taken}); choose another name")
    if importlib.util.find_spec(module) is not None:
        raise UsageError(f"a module {module!r} is installed already; choose another name")
    with contextlib.suppress(metadata.PackageNotFoundError):
        metadata.distribution(distribution)
        raise UsageError(f"the distribution {distribution!r} is installed already; choose another name")


def _require_empty(folder: Path) -> None:
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ZooError(f"{folder} is there already and not empty; name another with -o")


def _write(path: Path, text: str) -> Path:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ZooError(f"cannot write {path}: {error.strerror or error}") from None
    return path
