"""What weights are, to the byte: BLAKE3 of every tensor, and what follows for the recipe's digest.

A recipe states a digest of samples, which is there in a moment. The weights that were first built or measured under it
are remembered tensor by tensor; others with the same samples get a recipe of their own.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from zoo.contracts import BlockTile, Checkpoint, Stamp, StoresBlocks, TensorInfo, block_scheme, flat_shape
from zoo.declarations.base import digest
from zoo.declarations.dtypes import BY_CODE
from zoo.declarations.recipe import TransformPin
from zoo.errors import ZooError
from zoo.sources.memory import keep, recall
from zoo.sources.named import beneath
from zoo.units import bytes_text

if TYPE_CHECKING:
    from numpy.typing import NDArray


log = logging.getLogger("zoo")

SLAB = 4 * 2**20
_SETTLED = 2 * 10**9
"""Nanoseconds after its last change from which a file is remembered: file systems count time in steps, and a change in
the step of the last one would leave no trace."""
_LONG = 4 * 2**30
"""Bytes from which reading takes so long that it is announced."""


def countable(tensors: Mapping[str, TensorInfo]) -> list[str]:
    """Name the tensors whose bytes are read, sorted; those of types that nothing reads have no digest."""
    return sorted(name for name, info in tensors.items() if (known := BY_CODE.get(info.dtype)) and known.numpy)


def tensor_digests(checkpoint: Checkpoint, names: Iterable[str]) -> dict[str, str]:
    """Give the BLAKE3 of tensors, by the checkpoint's own names, row after row as stored: remembered, or read in full.

    Raises:
        ZooError: a file cannot be read, or changed meanwhile.
    """
    checkpoint = beneath(checkpoint)
    wanted = list(names)
    known = known_digests(checkpoint)
    missing = [name for name in wanted if name not in known]
    if missing:
        size = sum(checkpoint.tensors[name].nbytes for name in missing)
        if size > _LONG:
            log.warning("%s: reading all %s to see what they are", checkpoint.name, bytes_text(size))
        started, stamps = time.time_ns(), checkpoint.stamps()
        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as workers:
            fresh = dict(zip(missing, workers.map(lambda name: _digest_of(checkpoint, name), missing), strict=True))
        if checkpoint.stamps() != stamps:
            raise ZooError(f"{checkpoint.name}: its files changed while they were read; try again")
        known |= fresh
        remember(checkpoint, known, stamps, started)
    return {name: known[name] for name in wanted}


def known_digests(checkpoint: Checkpoint) -> dict[str, str]:
    """Give the digests of a checkpoint's tensors that are remembered, by what its files are now."""
    checkpoint = beneath(checkpoint)
    known: dict[str, str] = {}
    for key, names in _keys(checkpoint, checkpoint.stamps()).items():
        entry = recall("files", key)
        known |= {name: entry[name] for name in names if name in entry}
    return known


def remember(checkpoint: Checkpoint, digests: Mapping[str, str], stamps: Mapping[str, Stamp], started: int) -> None:
    """Remember digests of tensors that were read.

    Args:
        stamps: of the files, the same before and after.
        started: when reading began, nanoseconds since the epoch.
    """
    checkpoint = beneath(checkpoint)
    if any(max(stamp[3:]) > started - _SETTLED for stamp in stamps.values()):
        return
    for key, names in _keys(checkpoint, stamps).items():
        keep("files", key, {name: digests[name] for name in names if name in digests})


def settled_digest(checkpoint: Checkpoint, *, read: bool) -> str:
    """Name a checkpoint's content for a recipe: its own digest, unless that stands for other weights here.

    Args:
        read: read the weights where only that tells; otherwise its own digest is taken for right.
    """
    checkpoint = beneath(checkpoint)
    first = recall("weights", _weights_key(checkpoint.digest, checkpoint.transforms))
    if not first:
        return checkpoint.digest
    if not first.keys() <= checkpoint.tensors.keys():
        return full_digest(checkpoint.digest, tensor_digests(checkpoint, countable(checkpoint.tensors)))
    known = tensor_digests(checkpoint, first) if read else known_digests(checkpoint)
    if all(known.get(name, stated) == stated for name, stated in first.items()):
        return checkpoint.digest
    return full_digest(checkpoint.digest, {name: known[name] for name in first})


def full_digest(sampled: str, tensors: Mapping[str, str]) -> str:
    """Name weights whose samples are those of others."""
    return digest({"sampled": sampled, "tensors": dict(tensors)})


def settle(checkpoint: Checkpoint, stated: str | None, tensors: Mapping[str, str]) -> None:
    """Note what a recipe's digest stands for, now that all of it was read.

    Args:
        stated: the digest in the recipe.
        tensors: BLAKE3 of every tensor.

    Raises:
        ZooError: it stands for other weights.
    """
    checkpoint = beneath(checkpoint)
    if stated == checkpoint.digest:
        key = _weights_key(stated, checkpoint.transforms)
        keep("weights", key, tensors, replace=False)
        first = recall("weights", key)
        if any(first.get(name, one) != one for name, one in tensors.items()):
            raise ZooError(f"{checkpoint.name}: its weights changed since the build began; build again")


def differing(checkpoint: Checkpoint, stated: Mapping[str, str]) -> str | None:
    """Name the first tensor that is not, to the byte, what a manifest states; None where all are."""
    checkpoint = beneath(checkpoint)
    if absent := sorted(stated.keys() - checkpoint.tensors.keys()):
        return absent[0]
    digests = tensor_digests(checkpoint, stated)
    return next((name for name, one in stated.items() if digests[name] != one), None)


def _digest_of(checkpoint: Checkpoint, name: str) -> str:
    from blake3 import blake3

    state = blake3()
    for start, stop in row_ranges(checkpoint.tensors[name]):
        state.update(stored_bytes(checkpoint, name, start, stop))
    return state.hexdigest()


def stored_bytes(checkpoint: Checkpoint, name: str, start: int, stop: int) -> memoryview:
    """Give the bytes of rows as they are stored: the blocks of each, where they are blocks, otherwise the values."""
    if block_scheme(checkpoint, name) is None:
        return row_bytes(checkpoint.read(name, start, stop))
    assert isinstance(checkpoint, StoresBlocks)
    return block_bytes(checkpoint.read_blocks(name, start, stop))


def block_bytes(tile: BlockTile) -> memoryview:
    """Give the bytes of a tile row after row: levels, scales, zero points."""
    import numpy as np

    rows = len(tile.levels)
    arrays = (tile.levels, tile.scales, tile.zero_points)
    parts = [np.ascontiguousarray(array).reshape(rows, -1).view(np.uint8) for array in arrays if array is not None]
    return row_bytes(np.concatenate(parts, axis=1))


def row_bytes(values: NDArray[Any]) -> memoryview:
    """Give the bytes of rows in their order."""
    import numpy as np

    return np.ascontiguousarray(values).reshape(-1).view(np.uint8).data


def row_ranges(info: TensorInfo, start: int = 0) -> Iterator[tuple[int, int]]:
    """Cut a tensor's rows, from ``start`` on, into slabs."""
    rows = flat_shape(info.shape)[0]
    step = max(1, SLAB * rows // max(1, info.nbytes))
    for first in range(start, rows if info.nbytes else 0, step):
        yield first, min(first + step, rows)


def _keys(checkpoint: Checkpoint, stamps: Mapping[str, Stamp]) -> dict[str, list[str]]:
    """Name the entries that digests are kept in, each with its tensors: one a file, or one for what was transformed."""
    if not stamps:
        return {}
    pins = [pin.model_dump(mode="json") for pin in checkpoint.transforms]
    together = digest([sorted(map(list, stamps.values())), pins])
    keys: dict[str, list[str]] = {}
    for name, info in checkpoint.tensors.items():
        alone = not pins and info.file in stamps
        keys.setdefault(digest(list(stamps[info.file])) if alone else together, []).append(name)
    return keys


def _weights_key(stated: str, transforms: Iterable[TransformPin]) -> str:
    return digest([stated, [pin.model_dump(mode="json") for pin in transforms]])
