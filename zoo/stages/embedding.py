"""How a package's model embeds or ranks: as its files state it, and where they do not, as its family declares it."""

from __future__ import annotations

import contextlib
import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Literal, TypeVar, cast

from zoo.contracts import Engine
from zoo.declarations.embedding import EmbeddingUse
from zoo.declarations.recipe import Recipe
from zoo.errors import ZooError
from zoo.operations import HiddenStates, Scores, record
from zoo.registry import Registry

if TYPE_CHECKING:
    from zoo.embedding.modules import Modules

log = logging.getLogger("zoo")
Opened = TypeVar("Opened", bound="Engine")
Task = Literal["generate", "embed", "rank"]
"""What a model is for."""


def declared_use(registry: Registry, recipe: Recipe) -> EmbeddingUse | None:
    """Find what the declaration of a package's model says; None where nobody declares it."""
    declared = registry.families.get(recipe.family) if recipe.family is not None else None
    model = declared.model(recipe.model) if declared is not None else None
    use: EmbeddingUse | None = model.last("embedding")[0] if model is not None else None
    return use


def task_of(registry: Registry, recipe: Recipe, *, declared: bool = True) -> Task:
    """Say what a package's model is for; ``generate`` too where a plugin of its recipe is gone.

    Args:
        declared: a decoder that its family declares to rank is for that.
    """
    use = declared_use(registry, recipe) if declared else None
    if use is not None and use.judging is not None:
        return "rank"
    with contextlib.suppress(ZooError):
        arch = recipe.architecture.with_layers(1)
        last = record(registry.architecture(arch.type), arch).steps[-1].operation
        return "rank" if isinstance(last, Scores) else "embed" if isinstance(last, HiddenStates) else "generate"
    return "generate"


def with_declared_use(registry: Registry, engine: Opened) -> Opened:
    """Tell an engine that embeds what the declaration adds to its package's files; let a decoder rank that is to.

    Raises:
        ZooError: the decoder's tokenizer lacks the tokens that ranking compares.
    """
    use = declared_use(registry, engine.package.manifest.recipe)
    if use is None:
        return engine
    if use.judging is not None and {"logits", "text"} <= engine.abilities:
        from zoo.embedding.judging import Judge

        return cast("Opened", Judge(engine, use.judging, use.sequence_length))
    if "embeddings" in engine.abilities:
        from zoo.embedding import EncoderEngine

        assert isinstance(engine, EncoderEngine)
        engine.modules = completed(engine.modules, use, engine.package.name)
    return engine


def completed(modules: Modules, use: EmbeddingUse, name: str) -> Modules:
    """Add declared prompts, and where no file describes the embedding, the declared pooling and normalization."""
    modules = replace(modules, prompts={**use.prompts, **modules.prompts})
    if use.pooling is None:
        return modules
    if not modules.stated:
        return replace(modules, pooling=(use.pooling,), normalize=use.normalize)
    if modules.pooling != (use.pooling,):
        log.warning("%s: pooling %s is declared; its files state %s, which is used", name, use.pooling, modules.pooling)
    return modules
