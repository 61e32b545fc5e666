"""One request for several targets: pinned together before anything is written, then built into a folder for each."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.errors import UsageError, ZooError
from zoo.package.folder import MANIFEST
from zoo.stages import pipeline
from zoo.units import bytes_text

if TYPE_CHECKING:
    from zoo.declarations.plan import Plan
    from zoo.registry import Registry
    from zoo.stages.pipeline import Built, Pinned
    from zoo.stages.request import Request


def split_targets(text: str) -> list[str]:
    """Read ``NAME,NAME``.

    Raises:
        UsageError: an empty name, or one that appears twice.
    """
    names = [name.strip() for name in text.split(",")]
    if not all(names) or len(set(names)) < len(names):
        raise UsageError(f"--target takes different names, NAME,NAME, not {text!r}")
    return names


def pin_several(registry: Registry, request: Request, **pinning: Any) -> dict[str, Pinned]:
    """Pin a request for each of its targets; an option of a target goes to all that have one of its name.

    Args:
        request: its target names several, ``NAME,NAME``.
        pinning: the keywords of ``pipeline.pin``.

    Raises:
        UsageError: an option that none of the targets has, or what ``pipeline.pin`` raises of any.
        ZooError: see ``pipeline.pin``; or a target reads no weights.
    """
    names = split_targets(request.target)
    fields = {name: registry.target(name).Options.model_fields for name in names}
    if unknown := [option for option in request.target_options if not any(option in have for have in fields.values())]:
        raise UsageError(f"none of the targets {', '.join(names)} has an option {unknown[0]!r}")
    pinned = {}
    for name in names:
        options = {key: value for key, value in request.target_options.items() if key in fields[name]}
        pinned[name] = pipeline.pin(
            registry, replace(request, target=name, target_options=options, together=True), **pinning
        )
        if not pinned[name].reads_weights(registry):
            raise ZooError(f"target {name!r} writes no weights; build it by itself")
    return pinned


def plan_several(
    registry: Registry, pinned: Mapping[str, Pinned], output: Path, *, threads: int | None = None
) -> dict[str, Plan]:
    """Plan each build by itself; together they take the disk of all, and ``memory_of_all``."""
    return {name: pipeline.plan(registry, one, output / name, threads=threads) for name, one in pinned.items()}


def memory_of_all(registry: Registry, pinned: Mapping[str, Pinned], threads: int | None = None) -> int:
    """Predict the peak resident set size of building all in step, bytes."""
    from zoo.package.layout import lay_out
    from zoo.package.memory import build_memory, resident, shared_bytes
    from zoo.stages.plan import default_threads

    threads = threads or default_threads()
    parts = [(lay_out(one.recipe, registry), one.resolved.checkpoint) for one in pinned.values()]
    memory = [build_memory(layout, checkpoint, threads) for layout, checkpoint in parts]
    first, checkpoint = parts[0]
    assert checkpoint is not None  # every target here reads weights
    # Layers are calibrated for one target after the other; slabs are in work for all.
    added = max(memory) if first.quantizer.needs_activations else sum(memory) - (len(memory) - 1) * resident()
    return added + shared_bytes(first, checkpoint, threads)


def build_several(
    registry: Registry,
    pinned: Mapping[str, Pinned],
    output: Path,
    *,
    force: bool = False,
    **building: Any,
) -> dict[str, Built]:
    """Build each package into a folder of its target's name, in step, so that weights are read once.

    Args:
        building: other keywords of ``pipeline.build``.

    Raises:
        ZooError: the disk does not hold all of them, or see ``pipeline.build``; the same call continues each.
    """
    from zoo.stages.build import BuildOrder, build_together

    _require_space(registry, pinned, output)
    output.mkdir(parents=True, exist_ok=True)
    standing = [not force and (output / name / MANIFEST).is_file() for name in pinned]
    orders = [
        BuildOrder(one.recipe, one.resolved.checkpoint, output / name, one.tokens) for name, one in pinned.items()
    ]
    packages = build_together(orders, registry, force=force, **building)
    built = map(pipeline.Built, packages, standing)
    return dict(zip(pinned, built, strict=True))


def _require_space(registry: Registry, pinned: Mapping[str, Pinned], output: Path) -> None:
    """Refuse what the disk cannot hold before the first build."""
    plans = plan_several(registry, {n: p for n, p in pinned.items() if not (output / n).exists()}, output)
    there = next(folder for folder in (output, *output.absolute().parents) if folder.exists())
    needed, free = sum(plan.disk_output_bytes for plan in plans.values()), shutil.disk_usage(there).free
    if needed > free:
        raise ZooError(
            f"{output}: {bytes_text(free)} free, but the {len(plans)} packages take {bytes_text(needed)} together"
        )
