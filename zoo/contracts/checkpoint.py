"""Where weights come from: a checkpoint, opened."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from zoo.contracts.encoding import BlockTile
    from zoo.contracts.weights import Parameter
    from zoo.declarations.recipe import TransformPin
    from zoo.declarations.scheme import BlockScheme


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """A tensor of a checkpoint, as its header states it."""

    name: str
    dtype: str
    """Safetensors' name of the type; ``zoo.declarations.dtypes`` knows it, and which types are built from."""
    shape: tuple[int, ...]
    nbytes: int
    file: str = ""
    """The file that holds it, by its name inside the checkpoint."""


Stamp = tuple[int, int, int, int, int]
"""What the system says of a file without reading it: device, inode, size (bytes), modification and change time (ns)."""


class Checkpoint(Protocol):
    """An opened source of weights: headers at once, weights by the slab.

    One whose weights are not on this machine yet answers everything but ``read`` from its headers; ``bring`` fetches
    the rest.
    """

    @property
    def name(self) -> str:
        """A label for messages and for the package: a hub id or the folder's own name; never a path."""
        ...

    @property
    def config(self) -> Mapping[str, Any]:
        """``config.json``."""
        ...

    @property
    def tensors(self) -> Mapping[str, TensorInfo]:
        """Every tensor, by name; empty where there is a configuration and no weights."""
        ...

    @property
    def digest(self) -> str:
        """64 hexadecimal digits that name the content: weights, configuration, tokenizer; never the place."""
        ...

    @property
    def checksums(self) -> Mapping[str, str]:
        """SHA-256 of files of weights, by name, where the source states them as the hub does; otherwise empty."""
        ...

    @property
    def revision(self) -> str | None:
        """The commit that was opened, where the source has commits."""
        ...

    @property
    def transforms(self) -> tuple[TransformPin, ...]:
        """What was done to the tensors since they were read, first to last; empty for a plain source."""
        ...

    @property
    def download_bytes(self) -> int:
        """What ``bring`` will fetch, bytes; 0 where everything is on this machine."""
        ...

    @property
    def folder(self) -> Path | None:
        """The folder that other programs open as this very checkpoint; None where there is none."""
        ...

    def read(self, name: str, start: int, stop: int, out: NDArray[np.uint8] | None = None) -> NDArray[Any]:
        """Read rows ``start`` to ``stop`` of a tensor, in the stored type: (rows, columns), or (rows,) of a vector.

        A row runs along the last axis; a tensor of more than two axes counts as its flattened rows. BF16 comes as
        ``uint16`` bit patterns. With ``out``, a flat buffer that is large enough, the rows are read into it and the
        result is a view of it. Safe to call from several threads at once.

        Raises:
            ZooError: the file cannot be read, or became shorter.
        """
        ...

    def companion(self, name: str) -> bytes | None:
        """Read a file that belongs to the weights (``tokenizer.json``, a licence text), or None.

        Raises:
            ZooError: it is there and cannot be read, or is larger than such a file ever is.
        """
        ...

    def companions(self) -> tuple[str, ...]:
        """Name the companions that a build reads or copies, sorted; ``digest`` covers them."""
        ...

    def stamps(self) -> dict[str, Stamp]:
        """Stamp every file of weights, to notice a change while or between builds.

        Raises:
            ZooError: a file is gone.
        """
        ...

    def bring(self, progress: Callable[[Any], None] | None = None) -> Checkpoint:
        """Fetch what is missing and return the checkpoint with its weights on this machine.

        Args:
            progress: told after each piece.

        Raises:
            ZooError: why it did not come, or that there are no weights at all.
        """
        ...

    def close(self) -> None:
        """Close the files of weights; reading opens them again."""
        ...


@runtime_checkable
class ReadsColumns(Protocol):
    """What a checkpoint may offer too: columns of a matrix without the rest of its rows, for formats that transpose."""

    def read_columns(self, name: str, start: int, stop: int) -> NDArray[Any]:
        """Read columns of a matrix, (rows, stop - start), in the stored type; see ``Checkpoint.read``."""
        ...


@runtime_checkable
class FollowsTokens(Protocol):
    """What a checkpoint offers that sends tokens through the layers while it is read."""

    def energies(self, parameter: Parameter) -> NDArray[np.float32] | None:
        """Say what enters a linear whose rows were read: the mean square of each input; None where no token came."""
        ...


@runtime_checkable
class StoresBlocks(Protocol):
    """What a checkpoint may offer too: tensors that it stores as integer blocks, whose levels need no second rounding.

    Where the precision has the same width and the target's encoding holds the blocks, a build copies the levels; the
    recipe states it. Otherwise ``read`` gives the numbers that the blocks stand for. Weights are told apart by the
    blocks, so both members give the same answers whenever the weights are on this machine.
    """

    def block_scheme(self, name: str) -> BlockScheme | None:
        """Say how all rows of a tensor are stored, by its name and in its shape here; None where they are not blocks.

        Scales are counted as float32, which holds every narrower one exactly. A group that is a multiple of a block
        size that the scheme has is stated as such blocks, with its scale repeated.
        """
        ...

    def read_blocks(self, name: str, start: int, stop: int) -> BlockTile:
        """Read rows ``start`` to ``stop`` of a tensor that has a scheme, counted as ``read`` counts them.

        The arrays are new and may be changed. Safe to call from several threads at once.

        Raises:
            ZooError: the file cannot be read, or what it holds is damaged.
        """
        ...


@runtime_checkable
class StoresQuantized(Protocol):
    """What a checkpoint may offer too: tensors that are stored quantized and read as floats."""

    def stored_type(self, name: str) -> str | None:
        """Name the type that a tensor is stored in (``Q4_K``, ``gptq``); None where that is floats."""
        ...


def stored_type(checkpoint: Checkpoint, name: str) -> str | None:
    """Name the quantized type that a checkpoint stores a tensor in; None where that is floats."""
    return checkpoint.stored_type(name) if isinstance(checkpoint, StoresQuantized) else None


def block_scheme(checkpoint: Checkpoint, name: str) -> BlockScheme | None:
    """Say how a checkpoint stores the rows of a tensor; None where they are not blocks."""
    return checkpoint.block_scheme(name) if isinstance(checkpoint, StoresBlocks) else None
