"""A checkpoint seen under the names that an architecture uses, without what nobody reads.

Nothing is computed here, so it is no transform: what a checkpoint *is* is said of the one below, under its own names.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from zoo.contracts import BlockTile, Checkpoint, CheckpointOver, TensorInfo
from zoo.declarations.scheme import BlockScheme

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class NamedCheckpoint(CheckpointOver):
    """Tensors of a checkpoint under other names.

    Args:
        base: the checkpoint below.
        names: name here → name below; None for all as they are. What is not named is not seen.
        config: ``config.json`` as it is to be read; None for the one below.
    """

    def __init__(
        self, base: Checkpoint, names: Mapping[str, str] | None = None, config: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(base)
        self._names, self._config = names, config

    @property
    def config(self) -> Mapping[str, Any]:
        return self.base.config if self._config is None else self._config

    @cached_property
    def tensors(self) -> Mapping[str, TensorInfo]:
        """The tensors that are seen."""
        if self._names is None:
            return self.base.tensors
        return {name: replace(self.base.tensors[below], name=name) for name, below in self._names.items()}

    def read(self, name: str, start: int, stop: int, out: NDArray[np.uint8] | None = None) -> NDArray[Any]:
        """Read rows of a tensor by its name here."""
        return self.base.read(self.below(name), start, stop, out)

    def block_scheme(self, name: str) -> BlockScheme | None:
        """Say how a tensor is stored, by its name here."""
        return super().block_scheme(self.below(name))

    def read_blocks(self, name: str, start: int, stop: int) -> BlockTile:
        """Read blocks of a tensor by its name here."""
        return super().read_blocks(self.below(name), start, stop)

    def stored_type(self, name: str) -> str | None:
        """Name the type that a tensor is stored in, by its name here."""
        return super().stored_type(self.below(name))

    def below(self, name: str) -> str:
        """Say what a tensor is called below."""
        return name if self._names is None else self._names[name]

    def over(self, base: Checkpoint) -> NamedCheckpoint:
        """See another checkpoint in the same way."""
        return NamedCheckpoint(base, self._names, self._config)


def beneath(checkpoint: Checkpoint) -> Checkpoint:
    """Give the checkpoint under its own names."""
    while isinstance(checkpoint, NamedCheckpoint):
        checkpoint = checkpoint.base
    return checkpoint


def seen_over(checkpoint: Checkpoint, base: Checkpoint) -> Checkpoint:
    """See ``base`` under the names that ``checkpoint`` gives to what is beneath it."""
    if isinstance(checkpoint, NamedCheckpoint):
        return checkpoint.over(seen_over(checkpoint.base, base))
    return base
