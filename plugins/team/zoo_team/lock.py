"""``zoo.toml`` → ``zoo.lock`` → packages: pin what a team keeps, build exactly that, and name what drifted."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zoo import __version__
from zoo.declarations.recipe import Recipe
from zoo.errors import UsageError, ZooError
from zoo.package.contents import is_empty
from zoo.package.folder import MANIFEST, open_package, read_manifest
from zoo.package.hashes import stated_contents
from zoo.package.stream import Progress
from zoo.package.verified import REBUILD
from zoo.plugins import Host, PluginRecord
from zoo.registry import Registry
from zoo.sources.content import differing
from zoo.stages import pipeline
from zoo.stages.request import Request
from zoo.tomlfile import read_toml, toml_text
from zoo_team.workspace import Lock, LockedModel, WantedModel, Workspace, flattened

_NAMED = 3
"""Fields that a message names."""


@dataclass(frozen=True)
class Synced:
    """A model of the lock, built."""

    model: WantedModel
    path: Path
    already_built: bool


def read_workspace(path: Path) -> Workspace:
    """Read ``zoo.toml``.

    Raises:
        UsageError: there is none, or it asks for the same package twice.
        ZooError: it is wrong.
    """
    if not path.is_file():
        raise UsageError(f"{path}: not found; list each package there as [[model]] with name, precision, target")
    workspace, seen = read_toml(path, Workspace), set[str]()
    for wanted in workspace.model:
        if wanted.asked in seen:
            raise UsageError(f"{path}: {wanted.label} is listed twice")
        seen.add(wanted.asked)
    return workspace


def read_lock(path: Path) -> Lock:
    """Read ``zoo.lock``.

    Raises:
        ZooError: there is none, or it is wrong.
    """
    if not path.is_file():
        raise ZooError(f"{path}: not found; run `zoo lock` to write it")
    return read_toml(path, Lock)


def make_lock(host: Host, workspace: Workspace, *, said: Callable[[str], None] | None = None) -> Lock:
    """Pin every model of a workspace: from headers alone, unless a recipe depends on more.

    Args:
        said: called with the name of each model before it is pinned.

    Raises:
        ZooError: one cannot be pinned.
    """
    locked = []
    for wanted in workspace.model:
        if said is not None:
            said(wanted.label)
        pinned = _pin(host.registry, wanted, wanted.revision)
        locked.append(_locked(host, wanted, pinned))
    return Lock(zoo=__version__, model=tuple(sorted(locked, key=lambda one: (one.name, one.precision, one.target))))


def lock_text(lock: Lock) -> str:
    """Write a lock down."""
    head = "# Written by `zoo lock`; change zoo.toml instead.\n"
    return head + toml_text(lock.model_dump(mode="json", exclude_none=True))


def unlocked(workspace: Workspace, lock: Lock) -> Iterator[str]:
    """Say in one line each what ``zoo.toml`` and ``zoo.lock`` disagree about."""
    for wanted in workspace.model:
        if lock.find(wanted) is None:
            yield f"{wanted.label}: zoo.toml asks for it and zoo.lock does not have it; run `zoo lock`"
    asked = {wanted.asked for wanted in workspace.model}
    for locked in lock.model:
        if locked.asked not in asked:
            yield f"{locked.name} {locked.precision}: in zoo.lock, but zoo.toml does not ask for it; run `zoo lock`"


def drift(registry: Registry, workspace: Workspace, lock: Lock) -> Iterator[str]:
    """Say in one line each what is not as it was locked: declarations, weights, packages. Nothing is built."""
    yield from unlocked(workspace, lock)
    for wanted, locked in _locked_models(workspace, lock):
        try:
            pinned = _pin(registry, wanted, _revision(wanted, locked))
        except ZooError as error:
            yield f"{wanted.label}: {error}"
            continue
        if pinned.recipe.hash != locked.recipe_hash:
            yield f"{wanted.label}: {_difference(pinned.recipe, locked)}"
        elif not _stands(pinned.output(None)):
            yield f"{wanted.label}: not built; run `zoo sync`"
        elif (mismatch := _mismatch(pinned, locked)) is not None:
            yield f"{wanted.label}: {mismatch}; `zoo sync` builds it again"


def sync(
    registry: Registry,
    workspace: Workspace,
    lock: Lock,
    *,
    threads: int | None = None,
    progress: Callable[[Progress], None] | None = None,
    done: Callable[[Synced], None] | None = None,
    warn: Callable[[str], None] | None = None,
) -> list[Synced]:
    """Build what is locked, in the order of ``zoo.toml``; what is built already stays, what is damaged is built again.

    Args:
        threads: workers of a build; by default one a core.
        progress: told how far a build is.
        done: called with each package that is there.
        warn: called with a line for each package that is damaged.

    Raises:
        ZooError: ``zoo.toml`` and the lock disagree, or a build would not be the one that was locked.
    """
    if odd := list(unlocked(workspace, lock)):
        raise ZooError(odd[0])
    synced = []
    for wanted, locked in _locked_models(workspace, lock):
        pinned = pipeline.pin(registry, _request(wanted, _revision(wanted, locked)))
        if pinned.recipe.hash != locked.recipe_hash:
            raise ZooError(f"{wanted.label}: {_difference(pinned.recipe, locked)}")
        mismatch = _mismatch(pinned, locked) if _stands(pinned.output(None)) else None
        if mismatch is not None:
            if warn is not None:
                warn(f"{wanted.label}: {mismatch}; it is built again")
            if not _is_readable(pinned.output(None)):
                pipeline.remove_damaged_build(registry, pinned)
        built = pipeline.build(registry, pinned, threads=threads, force=mismatch is not None, progress=progress)
        if locked.contents not in (None, stated_contents(built.package.manifest)):
            raise ZooError(
                f"{wanted.label}: {_other_bytes(built.package.path)}: other versions of the libraries built it; "
                "`zoo lock` takes it as it is now"
            )
        synced.append(Synced(wanted, built.package.path, built.already_built))
        if done is not None:
            done(synced[-1])
    return synced


def _locked_models(workspace: Workspace, lock: Lock) -> Iterator[tuple[WantedModel, LockedModel]]:
    pairs = ((wanted, lock.find(wanted)) for wanted in workspace.model)
    return ((wanted, locked) for wanted, locked in pairs if locked is not None)


def _request(wanted: WantedModel, revision: str | None) -> Request:
    return Request(
        model=wanted.name,
        precision=wanted.precision,
        weights=wanted.weights,
        revision=revision,
        quantizer=wanted.quantizer,
        target=wanted.target,
        target_options=wanted.options,
    )


def _revision(wanted: WantedModel, locked: LockedModel) -> str | None:
    """The commit that was locked; a folder has none."""
    return locked.revision if locked.hub is not None else wanted.revision


def _pin(registry: Registry, wanted: WantedModel, revision: str | None) -> pipeline.Pinned:
    """Pin a model from headers; one that is calibrated is pinned by its tokens, which needs its weights' folder."""
    request = _request(wanted, revision)
    pinned = pipeline.pin(registry, request, planning=True)
    return pipeline.pin(registry, request) if pinned.recipe.calibration is not None else pinned


def _locked(host: Host, wanted: WantedModel, pinned: pipeline.Pinned) -> LockedModel:
    recipe, folder = pinned.recipe, pinned.output(None)
    family = host.registry.families.get(recipe.family) if recipe.family is not None else None
    records: Iterable[PluginRecord] = host.records if family is not None else ()
    plugin = next((record for record in records if family is not None and record.name == family.plugin), None)
    return LockedModel(
        name=wanted.name,
        precision=wanted.precision,
        target=wanted.target,
        asked=wanted.asked,
        hub=recipe.weights.hub,
        revision=recipe.weights.revision if recipe.weights.hub is not None else None,
        recipe_hash=recipe.hash,
        contents=stated_contents(read_manifest(folder)) if (folder / MANIFEST).is_file() else None,
        plugin=f"{plugin.distribution} {plugin.version}" if plugin is not None and plugin.distribution else None,
        recipe=_fields(recipe),
    )


def _fields(recipe: Recipe) -> dict[str, Any]:
    fields: dict[str, Any] = recipe.model_dump(mode="json", exclude={"model", "family", "licence"}, exclude_none=True)
    return fields


def _difference(recipe: Recipe, locked: LockedModel) -> str:
    """Name the fields of a recipe that are not the locked ones."""
    now, then = flattened(_fields(recipe)), flattened(locked.recipe)
    changed = [name for name in sorted(now.keys() | then.keys()) if now.get(name) != then.get(name)]
    shown = "; ".join(f"{name} is {_short(now, name)}, locked {_short(then, name)}" for name in changed[:_NAMED])
    more = f" (and {len(changed) - _NAMED} more)" if len(changed) > _NAMED else ""
    return f"not what was locked: {shown or 'the hash of the recipe'}{more}; `zoo lock` takes it as it is now"


def _short(fields: dict[str, Any], name: str) -> str:
    text = str(fields[name]) if name in fields else "absent"
    return text if len(text) <= 60 else f"{text[:60]}…"


def _stands(folder: Path) -> bool:
    """Tell whether anything stands where a package belongs."""
    return os.path.lexists(folder) and not (folder.is_dir() and not folder.is_symlink() and is_empty(folder))


def _is_readable(folder: Path) -> bool:
    try:
        read_manifest(folder)
    except ZooError:
        return False
    return True


def _mismatch(pinned: pipeline.Pinned, locked: LockedModel) -> str | None:
    """Return why the package in the store is not the locked one; None if it is, to the byte.

    Files are read, but for large ones whose hash is remembered for the state that they are in.
    """
    folder = pinned.output(None)
    try:
        manifest = open_package(folder).manifest
    except ZooError as error:
        return str(error).replace(f"{folder}:", f"{folder.name}:").removesuffix(REBUILD)
    checkpoint = pinned.resolved.checkpoint
    if manifest.recipe_hash != locked.recipe_hash:
        return f"{folder.name}/{MANIFEST}: it is of another recipe"
    if checkpoint is not None and (tensor := differing(checkpoint, manifest.inputs)) is not None:
        return f"{folder.name}: it was built from other weights, tensor {tensor!r} differs"
    return None if locked.contents in (None, stated_contents(manifest)) else _other_bytes(folder)


def _other_bytes(folder: Path) -> str:
    return f"{folder.name} is of the locked recipe but holds other bytes than were locked"
