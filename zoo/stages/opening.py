"""Package → Engine: the one door through which a package is opened to be run, measured, scored or served."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

from zoo.contracts import OWN_ENGINE, require
from zoo.declarations.memory import KV
from zoo.errors import ZooError, unknown
from zoo.package.folder import Package, open_package
from zoo.package.running import held_by, recorded_memory
from zoo.stages.embedding import task_of, with_declared_use
from zoo.stages.prepare import Progress, is_due, prepare, prepare_later
from zoo.stages.subject import find_package, identify, packages_of
from zoo.units import bytes_text

if TYPE_CHECKING:
    from zoo.contracts import Engine
    from zoo.engine import OrtEngine
    from zoo.registry import Registry

AUTO = "auto"
Preparing = Literal["never", "later", "now"]
"""When weights are prepared: ``never`` takes what is there, ``later`` leaves it to a process in the background, save
that what fits memory no other way is prepared at once; ``now`` prepares before opening."""


def open_engine(
    registry: Registry,
    folder: Path,
    *,
    name: str | None = None,
    threads: int | None = None,
    draft: Path | None = None,
    kv: KV = "auto",
    preparing: Preparing = "never",
    warn: Callable[[str], None] | None = None,
    progress: Progress | None = None,
) -> Engine:
    """Open a package, ready to answer.

    Unless weights are to be prepared (or the environment says ``ZOO_PREPACK=always``), nothing is written and no
    process is started.

    Args:
        registry: where the package's target comes from.
        folder: the package.
        name: the engine; by default the target's own.
        threads: workers; by default what the engine finds best.
        draft: the package of a smaller model that guesses ahead, as ``find_draft`` finds it.
        kv: how keys and values are kept; those of a draft are never rounded.
        preparing: when weights are prepared.
        warn: called with a line that says what is prepared, when, and how to forbid it.
        progress: called before each part of what is prepared at once.

    Raises:
        UsageError: there is no engine of this name.
        ZooError: it is not a package, a file is missing or changed, or the engine does not open it.
    """
    package = with_memory(registry, open_package(folder))
    chosen = choose_engine(registry, package, name)
    if chosen == OWN_ENGINE:
        _prepare(package, preparing, warn or logging.getLogger("zoo").warning, progress)
    opened = registry.engine(package.manifest.recipe.target.name, chosen).open(package, threads=threads)
    if kv == "int8":
        require(opened, "int8_kv", "--kv int8")
        cast("OrtEngine", opened).round_cache()
    if draft is not None:
        require(opened, "draft", "--draft")
        smaller = open_engine(registry, draft, threads=threads, preparing=preparing, warn=warn, progress=progress)
        cast("OrtEngine", opened).guess_with(smaller)
    return with_declared_use(registry, opened)


def find_draft(registry: Registry, folder: Path, text: str) -> Path:
    """Find the package of a draft model.

    Args:
        folder: the package that it guesses for; where several packages of the draft are built, its precision decides.
        text: MODEL|PACKAGE, or ``auto``: the model that the declaration names.

    Raises:
        ZooError: none is named, none is built, it generates nothing, or it is not smaller.
    """
    package = with_memory(registry, open_package(folder))
    recipe = package.manifest.recipe
    if text == AUTO:
        declared = registry.families.get(recipe.family) if recipe.family is not None else None
        model = declared.model(recipe.model) if declared is not None else None
        named = model.last("draft")[0] if model is not None else None
        if named is None:
            raise ZooError(f"no draft is declared for {recipe.model}; name one: --draft MODEL|PACKAGE")
        text = named
    built = packages_of(registry, identify(registry, text))
    same = len(built) > 1 and any(one.precision == recipe.precision for one in built)
    found = find_package(registry, text, recipe.precision if same else None)
    draft = with_memory(registry, open_package(found))
    if task_of(registry, draft.manifest.recipe) != "generate":
        raise ZooError(f"{draft.name} cannot guess for {package.name}: it generates no text")
    if held_by(draft.manifest) >= held_by(package.manifest):
        sizes = f"its weights take {bytes_text(held_by(draft.manifest))} of {bytes_text(held_by(package.manifest))}"
        raise ZooError(f"{draft.name} cannot guess for {package.name}: {sizes}; give a smaller sibling")
    return found


def with_memory(registry: Registry, package: Package) -> Package:
    """Fill in what a package of an older zoo does not say: the memory that it takes."""
    if package.manifest.memory is not None:
        return package
    memory = None
    with contextlib.suppress(ZooError):  # a recipe whose parts are gone; the package may run all the same
        memory = recorded_memory(package.manifest, registry)
    return replace(package, manifest=package.manifest.model_copy(update={"memory": memory}))


def choose_engine(registry: Registry, package: Package, name: str | None = None) -> str:
    """Name the engine that opens a package: the one asked for, or the target's own.

    Raises:
        UsageError: there is no engine of this name.
        ZooError: other programs run the package, or the engine does not open it.
    """
    label, target = package.path.name, package.manifest.recipe.target.name
    offered = tuple(registry.target(target).engines) if target in registry.targets else ()
    foreign = bool(offered) and OWN_ENGINE not in offered
    if foreign and task_of(registry, package.manifest.recipe, declared=False) != "generate":
        raise ZooError(f"{label} embeds texts for target {target!r}; its runtime serves it, and zoo that of 'ort'")
    if name is None and offered:
        return offered[0]
    if name is not None and name not in offered:
        known = engine_names(registry)
        if name not in known:
            raise unknown("engine", name, known)
        if offered:
            raise ZooError(f"{label} was built for target {target!r}, which {name!r} does not open: {_or(offered)}")
    if not offered:
        raise ZooError(f"{label} was built for target {target!r}, whose files other tools run, not zoo")
    assert name is not None
    return name


def engine_names(registry: Registry) -> list[str]:
    """List the engines of all targets that are installed and can be imported."""
    names: dict[str, None] = {}
    for target in registry.targets:
        with contextlib.suppress(ZooError):  # a target that cannot be imported says so where it is asked for
            names |= dict.fromkeys(registry.target(target).engines)
    return list(names)


def _or(names: Sequence[str]) -> str:
    return f"--engine {' or '.join(names)}"


@dataclass(frozen=True)
class Opener:
    """Opens a package again in another process: its fields travel, an engine does not."""

    folder: Path
    engine: str | None = None

    def __call__(self, threads: int | None = None) -> Engine:
        """Open it with whatever plugins this process has."""
        from zoo.plugins import host

        return open_engine(host().registry, self.folder, name=self.engine, threads=threads)


def _prepare(package: Package, preparing: Preparing, warn: Callable[[str], None], progress: Progress | None) -> None:
    from zoo.engine import prepack
    from zoo.engine.kernels import reads_as_stored

    if preparing == "now":
        prepare(package, progress)
    elif prepack.mode() == "always":
        if prepack.can_prepare(package) and not reads_as_stored(package.manifest):
            prepare(package, progress)
    elif preparing == "later":
        if (short := _only_mapped(package)) is not None:
            _prepare_to_map(package, short, warn, progress)
        elif is_due(package):
            size = bytes_text(prepack.grows_to(package))
            more = f"its weights are prepared ({size} of disk) in the background; ZOO_PREPACK=never forbids it"
            warn(f"{package.path.name}: {more}")
            prepare_later(package)


def _only_mapped(package: Package) -> str | None:
    """Say why a package can be opened only over prepared weights that are not there; None where it is not so."""
    from zoo.engine import prepack

    if prepack.mode() != "auto" or not prepack.is_large(package) or not prepack.can_prepare(package):
        return None
    return prepack.shortage(package) if prepack.find(package) is None else None


def _prepare_to_map(package: Package, short: str, warn: Callable[[str], None], progress: Progress | None) -> None:
    from zoo.engine import prepack

    name, size = package.path.name, bytes_text(prepack.grows_to(package))
    warn(f"{name}: opened, it {short}; its weights are prepared to be mapped from disk instead, once ({size})")
    try:
        prepare(package, progress)
    except ZooError as error:
        raise ZooError(f"{name}: opened, it {short}; and it cannot be mapped: {error}") from None
