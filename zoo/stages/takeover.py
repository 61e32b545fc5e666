"""Which weights' levels a build takes over from a checkpoint that stores integers, stated in the recipe."""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import replace

from zoo.contracts import Adapting, Checkpoint, Parameter, StoresBlocks, stored_type
from zoo.declarations.scheme import BlockScheme, FloatScheme
from zoo.errors import ZooError
from zoo.package.layout import Layout, lay_out
from zoo.package.takeover import stored_scheme
from zoo.registry import Registry
from zoo.stages.request import Request
from zoo.stages.resolve import Resolved

log = logging.getLogger("zoo")


def with_levels(registry: Registry, request: Request, resolved: Resolved) -> Resolved:
    """State in the recipe which weights keep the levels that the checkpoint stores.

    A weight does where the quantizer would give it as many bits, the target's encoding holds the stored blocks, and no
    option asks for others. A quantizer that looks at activations rounds for itself.
    """
    recipe, checkpoint = resolved.recipe, resolved.checkpoint
    if not isinstance(checkpoint, StoresBlocks) or not registry.target(recipe.target.name).needs_weights:
        return resolved
    layout = lay_out(recipe, registry)
    stored = {placed.parameter.name: stored_scheme(checkpoint, placed.parameter) for placed in layout.placed}
    stated = {name: request.quantizer_options.get(name) for name in ("block_size", "symmetric")}
    asked = {name: value for name, value in stated.items() if value is not None}
    chosen = {"head_bits", "embedding_bits"} & request.quantizer_options.keys()
    # Blocks as narrow as the precision stay as they are where the quantizer would give a weight more bits.
    usual = None if chosen else {"int4": 4, "int8": 8}.get(recipe.precision)
    kept: dict[str, BlockScheme] = {}
    again: Counter[str] = Counter()
    for placed in layout.placed:
        scheme = stored[placed.parameter.name]
        if isinstance(placed.scheme, FloatScheme):
            continue
        if scheme is None:
            for kind in sorted(_types(checkpoint, placed.parameter)):
                again[f"{kind} becomes {placed.scheme.bits}-bit blocks of {placed.scheme.block_size}"] += 1
            continue
        fits = scheme.bits in (placed.scheme.bits, usual) and all(
            getattr(scheme, name) == value for name, value in asked.items()
        )
        if fits and not layout.quantizer.needs_activations and _holds(layout, placed.parameter, scheme):
            kept[placed.parameter.name] = scheme.model_copy(update={"scale_type": "float32"})
        else:
            again[f"{scheme.bits}-bit blocks of {scheme.block_size} become {placed.scheme.bits}-bit ones"] += 1
    _warn(checkpoint, again)
    if not kept:
        return resolved
    recipe = recipe.model_copy(update={"taken_over": _by_role(layout, kept)})
    if recipe.smoothing is not None:
        from zoo.smoothing.plan import plan_smoothing

        layout = lay_out(recipe, registry)
        fitted = recipe.smoothing.fit is not None  # by the maker of the levels; too little is left to follow tokens for
        if fitted or layout.program is None or plan_smoothing(layout.program, layout.taken_over) is None:
            recipe = recipe.model_copy(update={"smoothing": None})
    return replace(resolved, recipe=recipe)


def _types(checkpoint: Checkpoint, parameter: Parameter) -> set[str]:
    """Name the quantized types that a parameter's tensors are stored in."""
    kinds = (stored_type(checkpoint, each.tensor) for each in parameter.slices if each.tensor in checkpoint.tensors)
    return {kind for kind in kinds if kind is not None}


def _warn(checkpoint: Checkpoint, again: Counter[str]) -> None:
    for what, count in again.items():
        log.warning("%s: %d weights are rounded a second time: %s", checkpoint.name, count, what)


def _holds(layout: Layout, parameter: Parameter, scheme: BlockScheme) -> bool:
    """Tell whether the target stores such blocks, and scales of their type as they are."""
    wide = scheme.model_copy(update={"scale_type": "float32"})
    try:
        target = layout.target
        adapted = target.adapt(layout.recipe, parameter, wide) if isinstance(target, Adapting) else wide
        layout.encoding.arrays(adapted, parameter.shape)
    except ZooError:
        return False
    return isinstance(adapted, BlockScheme) and adapted.scale_type in ("float32", scheme.scale_type)


def _by_role(layout: Layout, kept: dict[str, BlockScheme]) -> dict[str, BlockScheme]:
    """Name schemes by roles where all weights of a role have the same, otherwise by weight."""
    roles: dict[str, set[BlockScheme | None]] = {}
    for placed in layout.placed:
        if placed.parameter.kind in ("linear", "embedding"):
            roles.setdefault(placed.parameter.role, set()).add(kept.get(placed.parameter.name))
    named: dict[str, BlockScheme] = {}
    for placed in layout.placed:
        parameter, scheme = placed.parameter, kept.get(placed.parameter.name)
        if scheme is not None:
            named[parameter.role if parameter.role and len(roles[parameter.role]) == 1 else parameter.name] = scheme
    return named
