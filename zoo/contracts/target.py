"""What a registered target offers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar, Protocol

from pydantic import BaseModel

from zoo.contracts.weights import Parameter, StoredArray
from zoo.declarations.recipe import Precision, Recipe
from zoo.declarations.storage import BlockStorage, FloatStorage

if TYPE_CHECKING:
    from zoo.operations.program import Program


class Target(Protocol):
    """What a registered target class offers; it is used through an instance made without arguments."""

    Options: ClassVar[type[BaseModel]]
    precisions: ClassVar[Mapping[Precision, str]]
    """Precision → the quantizer that the target means by it."""
    operations: ClassVar[Mapping[str, frozenset[str]] | None]
    """Operation → its features that the target implements, by the names of ``zoo.operations``; None where nothing is
    computed from operations, since another program reads the checkpoint by itself."""
    emitter_version: ClassVar[int]
    """Raised when the same recipe would be emitted to other bytes."""
    needs_weights: ClassVar[bool]
    """Whether a build reads weights; without, files are written from the declaration alone."""
    runnable: ClassVar[bool]
    """Whether the engine opens what it builds."""
    head_multiple: ClassVar[int]
    """Head sizes that the target's kernels take are multiples of this."""
    data_file: ClassVar[str]
    """The file of the package that holds the weights, for example ``model.onnx.data``."""

    def check(self, recipe: Recipe) -> None:
        """Refuse a recipe that the target cannot serve.

        Raises:
            ZooError: which rule is broken, and why it is one.
        """
        ...

    def place(
        self, parameters: Sequence[Parameter], storages: Mapping[str, FloatStorage | BlockStorage]
    ) -> list[StoredArray]:
        """Place every stored array in the data file, in writing order.

        Offsets grow, and a parameter's arrays follow each other.
        """
        ...

    def files(
        self,
        recipe: Recipe,
        program: Program | None,
        arrays: Sequence[StoredArray],
        storages: Mapping[str, FloatStorage | BlockStorage],
    ) -> Iterable[tuple[str, bytes]]:
        """Make the files that hold no weights: the graph, the configuration of other runtimes."""
        ...
