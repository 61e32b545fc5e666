"""What a server offers: packages under names, each with what it takes in memory."""

from __future__ import annotations

import importlib.util
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.contracts import OWN_ENGINE, require
from zoo.declarations.conversation import Manners
from zoo.declarations.memory import KV, RunMemory
from zoo.engine.chat import find_template, find_templates
from zoo.errors import UsageError, ZooError, unknown
from zoo.package.folder import MANIFEST, Package, open_package
from zoo.package.running import half_kv_bytes, recorded_memory, stored_bytes
from zoo.registry import Registry
from zoo.stages.embedding import Task, task_of
from zoo.stages.manners import find_manners
from zoo.stages.opening import AUTO, choose_engine, find_draft, open_engine
from zoo.stages.subject import find_package
from zoo.units import bytes_text

if TYPE_CHECKING:
    from zoo.declarations.manifest import Manifest


LEAST_CONTEXT = 256
"""Tokens of context below which a model is rather not served."""
PREFIX_SHARE = 0.1
"""Of the memory beside the weights, for prefixes that may come again."""


@dataclass(frozen=True)
class ServedModel:
    """A package under the name that clients ask for."""

    name: str
    path: Path
    manifest: Manifest
    chat: bool
    """It has a chat template."""
    memory: RunMemory
    """What its weights and a token's keys and values take."""
    manners: Manners = field(default_factory=Manners)
    """How it writes calls of tools, and thoughts."""
    engine: str = OWN_ENGINE
    """What opens it."""
    task: Task = "generate"
    draft: Path | None = None
    """The package of a smaller model that guesses ahead; ``memory`` counts it."""
    kv: KV = "auto"
    """How keys and values are kept; ``memory`` counts them so."""

    @property
    def created(self) -> int:
        """When the package was built, seconds since 1970; 0 where it is gone."""
        try:
            return int((self.path / MANIFEST).stat().st_mtime)
        except OSError:
            return 0

    @property
    def context_length(self) -> int:
        return self.manifest.recipe.architecture.context_length

    def fit(self, slots: int, limit: int | None = None) -> Footprint:
        """Share a limit of memory among weights, the slots' KV caches and the prefix cache.

        Where the caches of full contexts do not fit, requests get less context than the model has.

        Args:
            slots: sequences that are computed together.
            limit: bytes; None for as much as the model can use.

        Raises:
            ZooError: not even short contexts fit; the message has the numbers.
        """
        weights, token = self.memory.weights_bytes, max(1, self.memory.kv_bytes_per_token)  # encoders keep nothing
        full = slots * self.context_length * token
        rest = 2 * full if limit is None else max(0, limit - weights)
        prefixes = min(full, int(rest * PREFIX_SHARE)) if limit is not None else full
        context = min(self.context_length, (rest - prefixes) // (slots * token))
        least = min(self.context_length, LEAST_CONTEXT)
        if limit is not None and context < least:
            caches = slots * least * token
            raise ZooError(
                f"{self.name} needs {bytes_text(weights)} of memory for its weights and {bytes_text(caches)} "
                f"for {slots} slots of {least} tokens, and the limit is {bytes_text(limit)}; serve it with fewer "
                "--slots, a lower precision, or more --memory"
            )
        return Footprint(context, weights, slots * context * token, prefixes)


@dataclass(frozen=True)
class Footprint:
    """What a loaded model takes at most, bytes."""

    context: int
    """Tokens that one request's prompt and answer have room for."""
    weights: int
    caches: int
    prefixes: int

    @property
    def total(self) -> int:
        return self.weights + self.caches + self.prefixes


def served_models(
    registry: Registry,
    texts: Sequence[str],
    precision: str | None = None,
    engine: str | None = None,
    draft: str | None = None,
    kv: KV = "auto",
) -> list[ServedModel]:
    """Find the packages that MODEL|PACKAGE... mean, and name them.

    A package goes by its model's name; where two of one model are served, by model and precision; where that is the
    same too, by its folder's name. No name is a path.

    Args:
        engine: what opens them; by default the engine of the target that each was built for.
        draft: a smaller model that guesses ahead, or ``auto`` for what each declaration names.
        kv: how keys and values are kept.

    Raises:
        UsageError: one draft for several models.
        ZooError: one is not built, or cannot be served, or two would have the same name.
    """
    if not texts:
        raise UsageError("nothing to serve: name a model or a package")
    paths = list(dict.fromkeys(find_package(registry, text, precision).resolve() for text in texts))
    if draft not in (None, AUTO) and len(paths) > 1:
        raise UsageError(f"--draft {draft} is for one model; several take --draft auto, which their families declare")
    packages = [open_package(path) for path in paths]
    drafts = [None if draft is None else find_draft(registry, path, draft) for path in paths]
    engines = [_require_served(registry, package, choose_engine(registry, package, engine)) for package in packages]
    manifests = [package.manifest for package in packages]
    recipes = [manifest.recipe for manifest in manifests]
    memories = [
        _memory(registry, kv, package, *([] if smaller is None else [open_package(smaller)]))
        for package, smaller in zip(packages, drafts, strict=True)
    ]
    names = [recipe.model for recipe in recipes]
    for longer in (
        [f"{recipe.model}-{recipe.precision}" for recipe in recipes],
        [path.name for path in paths],
    ):
        count = Counter(names)
        names = [other if count[name] > 1 else name for name, other in zip(names, longer, strict=True)]
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise ZooError(f"two packages would be served as {twice[0]!r}; rename the folder of one")
    return [
        ServedModel(
            name,
            path,
            manifest,
            chat=find_template(path) is not None,
            engine=chosen,
            memory=memory,
            manners=find_manners(registry, recipe, find_templates(path)),
            task=task_of(registry, recipe),
            draft=smaller,
            kv=kv,
        )
        for name, path, manifest, recipe, chosen, memory, smaller in zip(
            names, paths, manifests, recipes, engines, memories, drafts, strict=True
        )
    ]


def read_aliases(texts: Sequence[str], asked: Sequence[str], models: Sequence[ServedModel]) -> dict[str, str]:
    """Read ``NAME=MODEL``: further names for models that are served.

    Args:
        asked: MODEL|PACKAGE... as the user gave them, one for each model where their number is the same.

    Returns:
        Name → the model's own.

    Raises:
        UsageError: a model that is not served, or a name that is taken.
    """
    names = [model.name for model in models]
    known = {name: name for name in names}
    if len(asked) == len(models):
        known |= dict(zip(asked, names, strict=True))
    aliases: dict[str, str] = {}
    for text in texts:
        name, equals, model = text.partition("=")
        if not equals or not name or not model or not name.isprintable() or len(name) > 300:
            raise UsageError(f"--alias is NAME=MODEL, not {text!r}")
        if name in names or name in aliases:
            raise UsageError(f"--alias {text}: {name!r} is taken already")
        if model not in known:
            raise unknown("model", model, known, "name one of the served models")
        aliases[name] = known[model]
    return aliases


def _memory(registry: Registry, kv: KV, *packages: Package) -> RunMemory:
    """Add up what packages take; of one that another engine runs, its files and its numbers are what is known.

    Args:
        kv: how the first keeps keys and values.
    """
    memories = [
        recorded_memory(package.manifest, registry)
        or RunMemory(
            weights_bytes=stored_bytes(package.manifest),
            kv_bytes_per_token=half_kv_bytes(package.manifest.recipe.architecture),
        )
        for package in packages
    ]
    return RunMemory(
        weights_bytes=sum(one.weights_bytes for one in memories),
        kv_bytes_per_token=sum(one.kv_bytes_per_token for one in (memories[0].kept(kv), *memories[1:])),
    )


def _require_served(registry: Registry, package: Package, engine: str) -> str:
    """Refuse an engine that cannot serve before anything listens; our own can, so only others are asked.

    Raises:
        ZooError: it answers one request at a time.
    """
    if engine != OWN_ENGINE:
        opened = open_engine(registry, package.path, name=engine)
        try:
            require(opened, "batches", "zoo serve")
        finally:
            opened.close()
    return engine


def require_server() -> None:
    """Refuse to serve where what serves is not installed.

    Raises:
        ZooError: with what to install.
    """
    for name in ("fastapi", "uvicorn", "prometheus_client"):
        if importlib.util.find_spec(name) is None:
            raise ZooError(
                f"serving needs {name}, which is not installed; install it with: "
                "pip install 'model-zoo-framework[serve]'"
            )
