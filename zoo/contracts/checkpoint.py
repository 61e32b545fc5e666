"""Where weights come from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


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


class Checkpoint(Protocol):
    """An opened source of weights: headers at once, weights by the slab."""

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
        """Every tensor, by name."""
        ...

    @property
    def fingerprint(self) -> str:
        """SHA-256 over configuration, tokenizer, tensor headers and file sizes."""
        ...

    def read(self, name: str, start: int, stop: int, out: NDArray[np.uint8] | None = None) -> NDArray[Any]:
        """Read rows ``start`` to ``stop`` of a tensor (its first axis), in the stored type.

        BF16 comes as ``uint16`` bit patterns. With ``out``, a flat buffer that is large enough, the rows are read into
        it and the result is a view of it. Safe to call from several threads at once.

        Raises:
            ZooError: the file cannot be read, or became shorter.
        """
        ...

    def stamps(self) -> dict[str, tuple[int, int]]:
        """Size and modification time (ns) of every file of weights, to notice a change while or between builds."""
        ...

    def path(self, filename: str) -> Path | None:
        """Find a file beside the weights (a tokenizer, a licence), or None."""
        ...

    def licences(self) -> list[str]:
        """List the licence texts beside the weights, by file name."""
        ...
