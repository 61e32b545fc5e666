"""What opens a location as a checkpoint, and what makes another checkpoint of one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from pydantic import BaseModel

from zoo.contracts.checkpoint import Checkpoint, Stamp, StoresBlocks, TensorInfo, block_scheme, stored_type
from zoo.declarations.recipe import TransformPin

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from zoo.contracts.encoding import BlockTile
    from zoo.declarations.scheme import BlockScheme


class Source(Protocol):
    """Opens locations of one kind: a folder of a format, a file, a repository, an address."""

    def recognise(self, location: str) -> bool:
        """Tell whether a location is of this kind, as cheaply as that can be told; asks no network."""
        ...

    def open(self, location: str, *, revision: str | None, offline: bool) -> Checkpoint:
        """Open a location that was recognised, by its headers.

        Args:
            revision: a branch, a tag or a commit; None for the usual one.
            offline: open only what is on this machine.

        Raises:
            WeightsAbsent: it is not on this machine, and ``offline`` is set.
            ZooError: what is wrong with it, and what to do.
        """
        ...


class Transform(Protocol):
    """Makes a checkpoint over a checkpoint: dequantize, merge, rename, cast.

    It is applied where the checkpoint's ``quantization_config`` names one of its ``quant_methods``, or where the user
    asks for it by its registered name.
    """

    Options: ClassVar[type[BaseModel]]
    """What may be asked for; the recipe states every field."""
    quant_methods: ClassVar[tuple[str, ...]]
    """The ``quant_method`` values that it undoes."""

    def apply(self, checkpoint: Checkpoint, options: Any) -> Checkpoint:
        """Wrap a checkpoint.

        The result's ``transforms`` are those of ``checkpoint`` and one pin more, of the transform's registered name.
        Its ``config`` is that of the tensors as they are now, without the ``quantization_config`` that was undone.

        Args:
            options: an instance of ``Options``.

        Raises:
            ZooError: the checkpoint is not one that it can transform.
        """
        ...


class CheckpointOver:
    """A checkpoint that answers as the one below it."""

    def __init__(self, base: Checkpoint) -> None:
        self.base = base

    @property
    def name(self) -> str:
        return self.base.name

    @property
    def config(self) -> Mapping[str, Any]:
        return self.base.config

    @property
    def tensors(self) -> Mapping[str, TensorInfo]:
        return self.base.tensors

    @property
    def digest(self) -> str:
        return self.base.digest

    @property
    def checksums(self) -> Mapping[str, str]:
        return self.base.checksums

    @property
    def revision(self) -> str | None:
        return self.base.revision

    @property
    def transforms(self) -> tuple[TransformPin, ...]:
        return self.base.transforms

    @property
    def download_bytes(self) -> int:
        return self.base.download_bytes

    @property
    def folder(self) -> Path | None:
        return self.base.folder

    def read(self, name: str, start: int, stop: int, out: NDArray[np.uint8] | None = None) -> NDArray[Any]:
        return self.base.read(name, start, stop, out)

    def block_scheme(self, name: str) -> BlockScheme | None:
        return block_scheme(self.base, name)

    def read_blocks(self, name: str, start: int, stop: int) -> BlockTile:
        assert isinstance(self.base, StoresBlocks)  # only then there is a scheme
        return self.base.read_blocks(name, start, stop)

    def stored_type(self, name: str) -> str | None:
        return stored_type(self.base, name)

    def companion(self, name: str) -> bytes | None:
        return self.base.companion(name)

    def companions(self) -> tuple[str, ...]:
        return self.base.companions()

    def stamps(self) -> dict[str, Stamp]:
        return self.base.stamps()

    def bring(self, progress: Callable[[Any], None] | None = None) -> Checkpoint:
        """Bring what is below; the wrapper stays."""
        self.base = self.base.bring(progress)
        return self

    def close(self) -> None:
        self.base.close()


class TransformedCheckpoint(CheckpointOver):
    """What a transform makes: the checkpoint below, save for what a subclass overrides.

    Its ``digest`` stays that of the checkpoint below: the recipe names the transforms beside it.

    Args:
        base: what is transformed.
        pin: what the recipe is to say about it.
    """

    def __init__(self, base: Checkpoint, pin: TransformPin) -> None:
        super().__init__(base)
        self.pin = pin

    @property
    def transforms(self) -> tuple[TransformPin, ...]:
        """What was done below, and this."""
        return (*self.base.transforms, self.pin)

    def block_scheme(self, name: str) -> BlockScheme | None:
        """None: a transform changes values. One that does not says what the checkpoint below says of the tensor."""
        return None

    @property
    def folder(self) -> Path | None:
        """None: no other program sees the transformed tensors."""
        return None
