"""Find the numbers of the checkpoint that a compile file builds: its ``config.json``, or a declaration."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zoo import Architecture, ZooError
from zoo_vastai.reading import CompileFile


@dataclass(frozen=True)
class Known:
    """What is known of a checkpoint."""

    architecture: Architecture
    origin: str
    """Where the numbers come from."""
    base: str
    """The family that it belongs to, or its ``model_type``."""
    hub: str | None = None
    folder: Path | None = None
    declared: Any = None
    """The declared model of this checkpoint, if there is one."""


def find_numbers(file: CompileFile, registry: Any, roots: Sequence[Path]) -> Known:
    """Look into the checkpoint itself, then into the folders given, then into the declarations.

    Raises:
        ZooError: nobody knows its numbers.
    """
    declared = next((one for one in registry.models() if _same(one.model.weights.hub, file.weights_name)), None)
    for folder in _folders(file, roots):
        return _from_config(folder, registry, declared)
    if declared is not None:
        hub = declared.model.weights.hub
        return Known(declared.architecture, declared.full_name, declared.family.name, hub=hub, declared=declared)
    raise ZooError(
        f"nothing says the numbers of {file.weights_name}: {file.checkpoint} is not here and no declaration names it; "
        "give the folder that holds it (its config.json is enough) with --checkpoints"
    )


def _same(hub: str | None, name: str) -> bool:
    return hub is not None and hub.rsplit("/", 1)[-1].lower() == name.lower()


def _folders(file: CompileFile, roots: Sequence[Path]) -> Iterator[Path]:
    stated = Path(file.checkpoint)
    candidates = [stated if stated.is_absolute() else file.path.parent / stated]
    candidates += [root / file.weights_name for root in roots]
    yield from (one.resolve() for one in candidates if (one / "config.json").is_file())


def _from_config(folder: Path, registry: Any, declared: Any) -> Known:
    try:
        config = json.loads((folder / "config.json").read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise ZooError(f"{folder.name}/config.json: {error}") from None
    if not isinstance(config, dict):
        raise ZooError(f"{folder.name}/config.json holds no object")
    kind = str(config.get("model_type"))
    claimant = registry.claimant(kind)
    family = declared.declared_in if declared is not None else claimant
    part = (family.family.architecture.type if family is not None else None) or "decoder"
    architecture = registry.architecture(part).read_config(config)
    hub = declared.model.weights.hub if declared is not None else None
    base = family.family.name if family is not None else kind
    origin = f"config.json of {folder.name}"
    return Known(architecture, origin, base, hub=hub, folder=folder, declared=declared)


def parameter_count(registry: Any, architecture: Architecture) -> int:
    """Count a checkpoint's weights from its numbers."""
    return sum(math.prod(shape) for shape in registry.architecture(architecture.type).tensors(architecture).values())
