"""A checkpoint that digests its tensors while a build reads them, so that they need not be read twice."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from zoo.contracts import BlockTile, Checkpoint, CheckpointOver
from zoo.sources.content import block_bytes, countable, row_bytes, row_ranges, stored_bytes

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


_Read = TypeVar("_Read")


@dataclass
class _Tensor:
    """How far a tensor is digested: slabs in the order of its rows, whoever reads them."""

    state: Any
    at: int = 0
    """Rows that are digested."""
    reading: set[int] = field(default_factory=set)
    """First rows of the slabs that somebody is reading."""
    early: dict[int, tuple[int, bytes]] = field(default_factory=dict)
    """Slabs that came before their turn: first row → (the row after the last, bytes)."""
    turn: threading.Condition = field(default_factory=threading.Condition)


class Recording(CheckpointOver):
    """A checkpoint that digests what is read of it.

    Args:
        base: what is read.
        threads: workers that read at once.
        known: digests of tensors that need not be taken again.
    """

    def __init__(self, base: Checkpoint, threads: int, known: Mapping[str, str] | None = None) -> None:
        from blake3 import blake3

        super().__init__(base)
        self._ahead = threads
        self._kept: deque[tuple[_Tensor, int]] = deque()
        self._guard = threading.Lock()
        self._known = dict(known or {})
        self._tensors = {name: _Tensor(blake3()) for name in countable(base.tensors) if name not in self._known}

    def read(self, name: str, start: int, stop: int, out: NDArray[np.uint8] | None = None) -> NDArray[Any]:
        """Read rows of a tensor, and digest them in their turn; those of blocks are digested as blocks."""
        tensor = self._tensors.get(name)
        read = partial(self.base.read, name, start, stop, out)
        if tensor is None or stop <= tensor.at or self.block_scheme(name) is not None:
            return read()
        return self._digested(tensor, start, stop, read, row_bytes)

    def read_blocks(self, name: str, start: int, stop: int) -> BlockTile:
        """Read blocks of a tensor, and digest them in their turn."""
        tensor = self._tensors.get(name)
        read = partial(super().read_blocks, name, start, stop)
        if tensor is None or stop <= tensor.at:
            return read()
        return self._digested(tensor, start, stop, read, block_bytes)

    def _digested(
        self, tensor: _Tensor, start: int, stop: int, read: Callable[[], _Read], raw: Callable[[_Read], memoryview]
    ) -> _Read:
        with tensor.turn:
            tensor.reading.add(start)
        try:
            values = read()
            with tensor.turn:
                # Workers take slabs in order, so one that is early need not be kept: the other is about to come.
                while start > tensor.at and any(other < start for other in tensor.reading):
                    tensor.turn.wait()
                self._take(tensor, start, stop, raw(values))
        finally:
            with tensor.turn:
                tensor.reading.discard(start)
                tensor.turn.notify_all()
        return values

    def _take(self, tensor: _Tensor, start: int, stop: int, raw: memoryview) -> None:
        if start > tensor.at:
            # The one before it is not even begun: it is kept while there is room, or else read again at the end.
            if start not in tensor.early and len(tensor.early) < self._ahead:
                self._keep(tensor, start)
                tensor.early[start] = (stop, bytes(raw))
            return
        if stop > tensor.at:
            row = len(raw) // (stop - start)
            tensor.state.update(raw[(tensor.at - start) * row :])
            tensor.at = stop
        while (kept := tensor.early.pop(tensor.at, None)) is not None:
            tensor.at, early = kept
            tensor.state.update(early)

    def _keep(self, tensor: _Tensor, start: int) -> None:
        """Make room for an early slab: of all tensors together as many are kept as there are workers, the last ones.

        Where rows are picked from here and there, the ones between may never be read before the end.
        """
        with self._guard:
            self._kept.append((tensor, start))
            if len(self._kept) > self._ahead:
                other, first = self._kept.popleft()
                other.early.pop(first, None)

    def digests(self) -> dict[str, str]:
        """Give the BLAKE3 of every tensor; what nobody read is read now.

        Raises:
            ZooError: a file cannot be read.
        """
        result = dict(self._known)
        for name, tensor in self._tensors.items():
            for start, stop in row_ranges(self.base.tensors[name], tensor.at):
                tensor.state.update(stored_bytes(self.base, name, start, stop))
                tensor.at = stop
            result[name] = tensor.state.hexdigest()
        return dict(sorted(result.items()))
