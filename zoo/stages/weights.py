"""Where the weights of a request come from, and what is done to them: decided once, opened once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.contracts import Checkpoint
from zoo.declarations.recipe import ADAPTER, TransformPin
from zoo.errors import UsageError, WeightsAbsent, ZooError
from zoo.package.verified import sha256_of
from zoo.registry import DeclaredModel, Registry
from zoo.stages.adapters import readapted
from zoo.stages.choices import check_options
from zoo.stages.locations import Location, check_revision, given_location, path_location

if TYPE_CHECKING:
    from zoo.stages.subject import Subject


def locate_weights(registry: Registry, subject: Subject, weights: str | None, revision: str | None) -> Location | None:
    """Say where a subject's weights are: what ``--weights`` names, its own location, what a plugin ships, the hub.

    Returns:
        None where nothing says it.

    Raises:
        UsageError: a package, which has no weights to build from, or a revision of a folder.
        ZooError: ``--weights`` names nothing that a source opens.
    """
    if weights is not None:
        location = given_location(registry, weights, revision, "--weights")
    elif subject.package is not None:
        raise UsageError(f"{subject.label} is a package already; name a model or a checkpoint to build")
    elif subject.location is not None:
        location = given_location(registry, subject.location, revision, "")
    elif subject.declared is not None and subject.declared.weights_folder is not None:
        location = path_location(registry, subject.declared.weights_folder, revision)
    elif subject.declared is not None:
        declared = subject.declared.model.weights
        location = given_location(registry, str(declared.hub), revision or declared.revision, "")
    else:
        return None
    check_revision(location, subject.label, revision)
    return location


def are_declared(declared: DeclaredModel, location: Location) -> bool | None:
    """Tell whether a location holds the weights that a model declares.

    Returns:
        None for a folder where the declaration states no SHA-256.
    """
    stated = declared.model.weights
    if location.hub is not None:
        return location.hub == stated.hub
    folder = Path(location.text).expanduser()
    if declared.weights_folder is not None:
        return folder.resolve() == declared.weights_folder.resolve()
    if not stated.files:
        return None
    try:
        return all(sha256_of((folder / name).resolve(), name)[0] == sha256 for name, sha256 in stated.files.items())
    except ZooError:
        return False


def open_here(
    registry: Registry, subject: Subject, weights: str | None = None, revision: str | None = None
) -> Checkpoint | None:
    """Open a subject's weights as far as they are on this machine.

    Where nobody declared its numbers the small files of a repository are asked for, over the network if need be.

    Returns:
        None where there is nothing, and nothing more may be asked for.
    """
    location = locate_weights(registry, subject, weights, revision)
    return None if location is None else open_location_here(registry, subject, location, named=weights is not None)


def open_location_here(
    registry: Registry, subject: Subject, location: Location, *, named: bool = False
) -> Checkpoint | None:
    """Open a location as far as it is on this machine; see ``open_here``.

    Args:
        named: the user named it, beside a declared model.
    """
    for offline in (True, False):
        try:
            return location.open(registry, offline=offline, licence=licence_of(subject))
        except WeightsAbsent:
            if subject.declared is not None and not named:
                return None
    return None


def licence_of(subject: Subject) -> Any:
    """Get the declared licence of a subject, or None."""
    return subject.declared.licence if subject.declared is not None else None


def transformed(
    registry: Registry, checkpoint: Checkpoint, asked: Sequence[tuple[str, Mapping[str, Any]]] = ()
) -> Checkpoint:
    """Apply the transform that claims a checkpoint's ``quant_method``, then those that are asked for, in order.

    Raises:
        UsageError: an unknown transform or option.
        ZooError: several claim the method, or one does not say in ``transforms`` what it did.
    """
    method = quant_method(checkpoint.config)
    if method is not None:
        claims = [name for name in registry.transforms if method in registry.transform(name).quant_methods]
        if len(claims) > 1:
            raise ZooError(
                f"{checkpoint.name}: the transforms {' and '.join(claims)} both claim quant_method {method!r}"
            )
        for name in claims:
            checkpoint = _apply(registry, checkpoint, name, {})
    for name, options in asked:
        checkpoint = _apply(registry, checkpoint, name, options)
    return checkpoint


def retransformed(
    registry: Registry, checkpoint: Checkpoint, pins: Iterable[TransformPin], adapters: Sequence[str] = ()
) -> Checkpoint:
    """Apply the transforms that a recipe states.

    Args:
        adapters: where the adapters among them are, in order; the recipe names no folder.
    """
    given = iter(adapters)
    for pin in pins:
        if pin.kind == ADAPTER:
            checkpoint = readapted(checkpoint, pin, next(given, None))
            continue
        checkpoint = _apply(registry, checkpoint, pin.kind, pin.options)
    return checkpoint


def quant_method(config: Mapping[str, Any]) -> str | None:
    """Read ``quantization_config.quant_method`` of a ``config.json``."""
    stated = config.get("quantization_config")
    method = stated.get("quant_method") if isinstance(stated, Mapping) else None
    return method if isinstance(method, str) else None


def _apply(registry: Registry, checkpoint: Checkpoint, name: str, options: Mapping[str, Any]) -> Checkpoint:
    transform = registry.transform(name)
    checked = check_options(f"transform {name!r}", transform.Options, options)
    result = transform.apply(checkpoint, checked)
    *before, last = result.transforms or (None,)
    if tuple(before) != checkpoint.transforms or last is None or last.kind != name:
        raise ZooError(
            f"transform {name!r} does not record what it did in its checkpoint's transforms; it is defective"
        )
    return result
