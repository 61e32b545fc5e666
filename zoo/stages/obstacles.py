"""What stands between a checkpoint and a build by an architecture: each field and tensor that does not fit, at once."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

from zoo.contracts import ArchitecturePart, Checkpoint
from zoo.declarations.architecture import Architecture
from zoo.declarations.dtypes import READABLE
from zoo.errors import ZooError
from zoo.stages.reading import as_meant

MOST = 12
"""Lines that are told; a checkpoint with more computes something else altogether."""
_NUMBER = re.compile(r"(?<=\.)\d+(?=\.)")


def read_supported_fields(
    part: ArchitecturePart, config: Mapping[str, Any], implied: Mapping[str, Any]
) -> tuple[Architecture | None, list[str]]:
    """Read a ``config.json``, leaving out each field that the architecture rejects.

    Args:
        implied: what a model of its type is where the file is silent.

    Returns:
        The architecture that the supported fields describe, None where they are too few; and an error line for each
        rejected field.
    """
    left, refused = dict(config), list[str]()
    while len(refused) < MOST:
        try:
            return part.read_config(left, implied), refused
        except ZooError as error:
            name = str(error).removeprefix("config.json: ").split(" ")[0].rstrip(":")
            if name not in left and refused:
                break  # what is left lacks a field that was refused
            refused.append(str(error))
            if left.pop(name, None) is None:
                break
    return None, refused


def tensor_obstacles(part: ArchitecturePart, arch: Architecture, checkpoint: Checkpoint) -> list[str]:
    """Compare a checkpoint's tensors with what an architecture's numbers make, by their headers.

    Returns:
        A line for each kind of difference, layers and experts taken together; empty where everything fits, and where
        the checkpoint's headers are not on this machine.
    """
    if not checkpoint.tensors:
        return []
    try:
        arch, checkpoint = as_meant(part, arch, checkpoint, (), read=False)
    except ZooError as error:
        return [str(error)]
    wanted, found = part.tensors(arch), checkpoint.tensors
    lines: list[str] = []
    for name, shape in wanted.items():
        info = found.get(name)
        if info is None:
            lines.append(f"tensor {_alike(name)} of shape {list(shape)} is missing")
        elif info.shape != shape:
            made = f"but the numbers of config.json make it {list(shape)}"
            lines.append(f"tensor {_alike(name)} has shape {list(info.shape)}, {made}")
        elif info.dtype not in READABLE:
            lines.append(f"tensor {_alike(name)} is {info.dtype}, which cannot be read; a transform must convert it")
    lines += [
        f"tensor {_alike(name)} of shape {list(info.shape)} is unused"
        for name, info in found.items()
        if name not in wanted and not part.ignored(arch, name)
    ]
    counts = Counter(lines)
    told = [line if count == 1 else f"{line} ({count} such)" for line, count in counts.items()]
    return told[:MOST] + ([f"and {len(told) - MOST} more kinds of difference"] if len(told) > MOST else [])


def _alike(name: str) -> str:
    """Name a tensor without the number of its layer or expert."""
    return repr(_NUMBER.sub("*", name))
