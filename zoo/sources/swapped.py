"""Matrices that a checkpoint stores with their axes swapped, seen as other weights lie: (…, out, in)."""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from collections.abc import Collection, Mapping
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from zoo.contracts import Checkpoint, TensorInfo
from zoo.sources.named import NamedCheckpoint

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_KEPT = 2
"""Matrices that are kept: workers read rows in order, of one or of the next."""


class SwappedCheckpoint(NamedCheckpoint):
    """A checkpoint with some tensors' last two axes swapped.

    A row of such a tensor lies across a whole matrix, so that is read at once and kept while its rows are asked for.

    Args:
        base: the checkpoint below.
        swapped: names of tensors that are stored as (…, in, out).
    """

    def __init__(self, base: Checkpoint, swapped: Collection[str]) -> None:
        super().__init__(base)
        self._swapped = frozenset(swapped)
        self._matrices: OrderedDict[tuple[str, int], NDArray[Any]] = OrderedDict()
        self._lock = threading.Lock()

    @cached_property
    def tensors(self) -> Mapping[str, TensorInfo]:
        """The tensors, those that are swapped as (…, out, in)."""
        seen = dict(self.base.tensors)
        for name in self._swapped:
            *before, columns, rows = seen[name].shape
            seen[name] = replace(seen[name], shape=(*before, rows, columns))
        return seen

    def held_bytes(self) -> int:
        """Count the memory of the matrices that are kept, of one that is read and of one that is turned."""
        infos = [self.tensors[name] for name in self._swapped]
        return (_KEPT + 2) * max(info.nbytes // math.prod(info.shape[:-2]) for info in infos)

    def read(self, name: str, start: int, stop: int, out: NDArray[np.uint8] | None = None) -> NDArray[Any]:
        """Read rows, counted over all matrices of a tensor."""
        if name not in self._swapped:
            return self.base.read(name, start, stop, out)
        count = self.tensors[name].shape[-2]
        parts, at = list[Any](), start
        while at < stop:
            matrix, row = divmod(at, count)
            end = min(stop, (matrix + 1) * count)
            parts.append(self._matrix(name, matrix)[row : row + end - at])
            at = end
        import numpy as np

        rows = parts[0] if len(parts) == 1 else np.concatenate(parts)
        if out is None:
            return np.ascontiguousarray(rows)
        view = out[: rows.nbytes].view(rows.dtype).reshape(rows.shape)
        view[...] = rows
        return view

    def _matrix(self, name: str, index: int) -> NDArray[Any]:
        """Read a matrix, or take it from those that are kept, (out, in)."""
        with self._lock:
            if (kept := self._matrices.get((name, index))) is None:
                import numpy as np

                columns = self.tensors[name].shape[-1]
                kept = np.ascontiguousarray(self.base.read(name, index * columns, (index + 1) * columns).T)
                self._matrices[name, index] = kept
                while len(self._matrices) > _KEPT:
                    self._matrices.popitem(last=False)
            return kept

    def over(self, base: Checkpoint) -> SwappedCheckpoint:
        """See another checkpoint in the same way."""
        return SwappedCheckpoint(base, self._swapped)


def held_bytes(checkpoint: Checkpoint) -> int:
    """Count the memory that a checkpoint keeps to read rows of swapped tensors."""
    while isinstance(checkpoint, NamedCheckpoint):
        if isinstance(checkpoint, SwappedCheckpoint):
            return checkpoint.held_bytes()
        checkpoint = checkpoint.base
    return 0
