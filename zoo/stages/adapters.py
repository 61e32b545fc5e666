"""Adapters of a request: found, checked against their base, merged in order."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.declarations.recipe import TransformPin
from zoo.errors import UsageError, ZooError
from zoo.registry import DeclaredModel
from zoo.sources.otherkinds import ADAPTER
from zoo.stages.request import Request

if TYPE_CHECKING:
    from zoo.contracts import Checkpoint
    from zoo.sources.hub_files import HubFiles

log = logging.getLogger("zoo")


def adapted(request: Request, declared: DeclaredModel | None, checkpoint: Checkpoint) -> Checkpoint:
    """Merge the adapters that are asked for, else the declared one, else the one beside the weights.

    Raises:
        UsageError: scales without adapters, or ``--no-adapter`` beside them.
        ZooError: an adapter that cannot be opened or merged, or belongs to another base.
    """
    asked, scales = list(request.adapters), list(request.adapter_scales)
    if len(scales) > len(asked):
        raise UsageError(f"--adapter-scale is given {len(scales)} times for {len(asked)} adapters")
    if request.no_adapter:
        if asked:
            raise UsageError("--no-adapter and --adapter cannot be used together")
        return checkpoint
    scales += [1.0] * (len(asked) - len(scales))
    stated = declared.model.adapter if declared is not None and request.weights is None else None
    if not asked and stated is not None:
        return _merged(checkpoint, stated.hub, stated.revision, stated.scale)
    if not asked and checkpoint.companion(ADAPTER) is not None and checkpoint.tensors:
        if checkpoint.folder is None:
            raise ZooError(
                f"{checkpoint.name}: an adapter lies beside the weights ({ADAPTER}); --adapter names it, "
                "or --no-adapter builds the weights without it"
            )
        log.warning("%s: the adapter beside the weights is merged; --no-adapter leaves it out", checkpoint.name)
        return _merge(checkpoint, checkpoint.folder, {}, 1.0, beside=True)
    for location, scale in zip(asked, scales, strict=True):
        checkpoint = _merged(checkpoint, location, None, scale)
    return checkpoint


def refuse_adapters(request: Request, declared: DeclaredModel | None) -> None:
    """Refuse a target that serves the weights as they are, where an adapter is to be merged into them.

    Raises:
        ZooError: there is one.
    """
    stated = declared is not None and declared.model.adapter is not None and request.weights is None
    if request.adapters or (stated and not request.no_adapter):
        raise ZooError(f"target {request.target!r} uses the original weights and cannot merge an adapter")


def readapted(checkpoint: Checkpoint, pin: TransformPin, given: str | None) -> Checkpoint:
    """Merge the adapter that a recipe states.

    Args:
        given: where it is, where the recipe names no repository.

    Raises:
        ZooError: it is another one, or nobody says where it is.
    """
    hub, revision, scale = (pin.options.get(name) for name in ("hub", "revision", "scale"))
    location = given or (str(hub) if hub else None)
    if location is None and checkpoint.companion(ADAPTER) is not None and checkpoint.folder is not None:
        location = str(checkpoint.folder)
    if location is None:
        raise ZooError("an adapter was merged into these weights; --adapter names its folder")
    merged = _merged(checkpoint, location, None if given else str(revision) if revision else None, float(str(scale)))
    if merged.transforms[-1].digest != pin.digest:
        raise ZooError(f"{location} is not the adapter that was merged: its content differs")
    return merged


def _merged(checkpoint: Checkpoint, location: str, revision: str | None, scale: float) -> Checkpoint:
    """Merge an adapter in a folder or a repository."""
    folder = Path(location).expanduser()
    if folder.is_dir():
        if not (folder / ADAPTER).is_file():
            raise ZooError(f"{location}: not an adapter: {ADAPTER} is missing")
        return _merge(checkpoint, folder, {}, scale)
    files = adapter_files(location, revision)
    return _merge(checkpoint, files.paths[ADAPTER].parent, {"hub": location, "revision": files.commit}, scale)


def adapter_files(location: str, revision: str | None, *, offline: bool = False) -> HubFiles:
    """Bring the adapter of a repository to this machine.

    Raises:
        UsageError: it is not a hub id.
        ZooError: there is no adapter in it, or why it did not come.
    """
    from zoo.sources.adapter import WEIGHTS
    from zoo.sources.hub import is_hub_id
    from zoo.sources.hub_files import HubFiles

    if not is_hub_id(location):
        raise UsageError(f"--adapter: {location!r} is neither a folder nor a hub id")

    def choose(names: Sequence[str]) -> Sequence[str]:
        wanted = (ADAPTER, WEIGHTS)
        if missing := [name for name in wanted if name not in names]:
            raise ZooError(f"{location}: not an adapter: {missing[0]} is missing")
        return wanted

    files = HubFiles(location, revision, choose, offline=offline)
    files.bring()
    return files


def _merge(
    checkpoint: Checkpoint, folder: Path, stated: dict[str, str], scale: float, *, beside: bool = False
) -> Checkpoint:
    from zoo.sources.adapter import Adapter
    from zoo.sources.merged import MergedCheckpoint

    if not -100 <= scale <= 100:
        raise UsageError(f"--adapter-scale must be from -100 to 100, not {scale:g}")
    adapter = Adapter(folder, stated.get("hub") or folder.resolve().name)
    if not beside:
        _check_base(adapter.config.get("base_model_name_or_path"), adapter.name, checkpoint)
    return MergedCheckpoint(checkpoint, adapter, scale, stated)


def _check_base(base: object, name: str, checkpoint: Checkpoint) -> None:
    """Hold the base that an adapter names against the checkpoint: ids must agree, folders are compared by name alone.

    Raises:
        ZooError: it is the id of another repository.
    """
    if not isinstance(base, str) or not base:
        return
    ours = checkpoint.name
    same = base.rstrip("/\\").replace("\\", "/").rsplit("/", 1)[-1].lower() == ours.rsplit("/", 1)[-1].lower()
    hub_id = re.fullmatch(r"[\w.-]+/[\w.-]+", base)
    if base == ours or (same and not (hub_id and "/" in ours)):
        return
    if hub_id and "/" in ours:
        raise ZooError(f"{name}: an adapter for {base}, not for {ours}")
    log.warning("%s: the adapter was trained on %s; it is merged into %s", name, base[:100], ours)
