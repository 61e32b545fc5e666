"""The transform ``rename``: tensors whose names carry a prefix too many, or another one."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field

from zoo.contracts import BlockTile, Checkpoint, TensorInfo, TransformedCheckpoint
from zoo.declarations.recipe import TransformPin
from zoo.declarations.scheme import BlockScheme
from zoo.errors import ZooError
from zoo.sources.named import NamedCheckpoint

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class RenameOptions(BaseModel):
    """Which names, and how."""

    model_config = ConfigDict(extra="forbid")

    strip: str = Field(min_length=1)
    """What the names begin with."""
    put: str = ""
    """What they begin with instead."""


class RenamedCheckpoint(TransformedCheckpoint):
    """A checkpoint whose tensors begin with another prefix; the others keep their names."""

    def __init__(self, base: Checkpoint, options: RenameOptions) -> None:
        super().__init__(base, TransformPin(kind="rename", options=options.model_dump()))
        self._options = options

    @cached_property
    def _named(self) -> NamedCheckpoint:
        strip, put = self._options.strip, self._options.put
        names: dict[str, str] = {}
        for below in self.base.tensors:
            name = put + below.removeprefix(strip) if below.startswith(strip) else below
            if name in names:
                raise ZooError(f"{self.name}: renamed, {below!r} and {names[name]!r} would both be {name!r}")
            names[name] = below
        return NamedCheckpoint(self.base, names)

    @property
    def tensors(self) -> Mapping[str, TensorInfo]:
        """The tensors, by their new names."""
        return self._named.tensors

    def read(self, name: str, start: int, stop: int, out: NDArray[np.uint8] | None = None) -> NDArray[Any]:
        """Read rows of a tensor by its new name."""
        return self.base.read(self._named.below(name), start, stop, out)

    def block_scheme(self, name: str) -> BlockScheme | None:
        """Say how a tensor is stored, by its new name."""
        return self._named.block_scheme(name)

    def stored_type(self, name: str) -> str | None:
        """Name the type that a tensor is stored in, by its new name."""
        return self._named.stored_type(name)

    def read_blocks(self, name: str, start: int, stop: int) -> BlockTile:
        """Read blocks of a tensor by its new name."""
        return self._named.read_blocks(name, start, stop)


class Rename:
    """Takes a prefix from the names of tensors, or puts another in its place (the ``Transform`` protocol)."""

    Options = RenameOptions
    quant_methods: ClassVar[tuple[str, ...]] = ()

    def apply(self, checkpoint: Checkpoint, options: RenameOptions) -> RenamedCheckpoint:
        """Rename.

        Raises:
            ZooError: no name begins so, or two come to be the same.
        """
        if not any(name.startswith(options.strip) for name in checkpoint.tensors):
            raise ZooError(f"{checkpoint.name}: no tensor's name begins with {options.strip!r}")
        return RenamedCheckpoint(checkpoint, options)


def naming_hint(name: str, tensors: Mapping[str, Any]) -> str | None:
    """Say how a checkpoint names a tensor that is missing, and what reads it; None where it has nothing like it."""
    for strip, put in _candidates(name, tensors):
        put_option = f",put={put}" if put else ""
        return f"the checkpoint's names begin with {strip!r}; --transform rename:strip={strip}{put_option} reads them"
    return None


def _candidates(name: str, tensors: Mapping[str, Any]) -> list[tuple[str, str]]:
    """List prefixes in place of which another stands: (what there is, what there should be)."""
    first, _, rest = name.partition(".")
    candidates = []
    for tail, put in ((name, ""), (rest, f"{first}.")):
        if tail:
            candidates += [
                (other.removesuffix(tail), put) for other in tensors if other.endswith(f".{tail}") and other != name
            ]
    return candidates
