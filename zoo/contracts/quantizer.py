"""What a registered quantizer offers, and what it is handed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, runtime_checkable

from pydantic import BaseModel

from zoo.contracts.encoding import TileWriter
from zoo.contracts.weights import Parameter
from zoo.declarations.recipe import Precision
from zoo.declarations.scheme import Scheme

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Slab(Protocol):
    """A few whole rows of a parameter, in the checkpoint's type until someone asks for numbers.

    Rows are handed out a tile at a time; a tile of ``tile_rows`` keeps the work in the cache. What a method returns is
    valid until the next call on the same thread, and may be overwritten.

    Every method raises ``ZooError`` with the tensor's name where a value is NaN or infinite.
    """

    rows: int
    columns: int
    tile_rows: int
    energies: NDArray[np.float32] | None
    """(columns,): the mean square of what each column is multiplied with, where the build followed tokens so far."""

    def float32(self, start: int, stop: int, width: int | None = None) -> NDArray[np.float32]:
        """Rows ``start`` to ``stop``, contiguous (stop - start, width); columns past the last are zeros."""
        ...

    def scaled(self, start: int, stop: int, factors: NDArray[np.float32], block: int) -> NDArray[np.float32]:
        """Rows times a factor for each block of columns, (stop - start, blocks, block), zeros right of the last column.

        Args:
            factors: (stop - start, blocks).
        """
        ...

    def absmax(self, start: int, stop: int, block: int) -> NDArray[np.float32]:
        """The largest magnitude in each block of columns, (stop - start, blocks)."""
        ...

    def extreme(self, start: int, stop: int, block: int) -> NDArray[np.float32]:
        """The value of largest magnitude, with its sign, in each block of columns, (stop - start, blocks)."""
        ...

    def extremes(self, start: int, stop: int, block: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The smallest value or zero, and the largest value or zero, in each block of columns."""
        ...

    def float16(self, start: int, stop: int) -> NDArray[np.float16]:
        """Rows ``start`` to ``stop``, rounded where the checkpoint's type is wider.

        Raises:
            ZooError: a value is too large for float16.
        """
        ...

    def bfloat16(self, start: int, stop: int) -> NDArray[np.uint16]:
        """Rows ``start`` to ``stop`` as bit patterns of bfloat16, rounded where the checkpoint's type is finer."""
        ...


class LayerActivations(Protocol):
    """What a calibrated quantizer may ask about the inputs of a parameter."""

    device: str
    """Where heavy arithmetic belongs: ``cpu`` or ``cuda``."""
    tokens: int
    """Calibration tokens that were seen."""

    def hessian(self, parameter: Parameter) -> NDArray[np.float32]:
        """Σ x xᵀ over the calibration tokens, float32 (in_features, in_features); read it, do not change it.

        Linears that read the same value share it.
        """
        ...


@dataclass(frozen=True, slots=True, eq=False)
class FoldLink:
    """A place where channels can be rescaled without changing what the layer computes."""

    source: Parameter
    """What makes the channels: a norm, or the rows of a linear."""
    bias: Parameter | None
    """The source's bias, which is rescaled with it."""
    rows: NDArray[np.intp]
    """(in_features,): which row of the source makes each channel."""
    consumers: tuple[Parameter, ...]
    """All linears that read the channels; nothing else does."""


class FoldableLayer(LayerActivations, Protocol):
    """A decoder layer before it is quantized."""

    @property
    def links(self) -> list[FoldLink]:
        """Where channels can be rescaled."""
        ...

    def weight(self, parameter: Parameter) -> NDArray[np.float32]:
        """The values of a parameter as they are now; read them, do not change them."""
        ...

    def fold(self, link: FoldLink, scales: NDArray[np.float32]) -> None:
        """Divide the source's rows by ``scales``, (in_features,), and multiply the consumers' columns by them."""
        ...


@runtime_checkable
class Folding(Protocol):
    """What a calibrated quantizer offers beside ``quantize`` when it rescales channels first."""

    def fold(self, layer: FoldableLayer) -> None:
        """Rescale what it wants by ``layer.fold``; called once a layer, with all its Hessians, before ``quantize``."""
        ...


class Quantizer(Protocol):
    """What a registered quantizer class offers. An instance is one choice of precision and options.

    With ``needs_activations``, a build sends calibration samples through the layers and gives ``quantize`` the
    statistics of each linear's inputs; embeddings, norms and biases come without. Two more members are then looked for:
    ``true_sequential``, a bool (observe each group of linears only after those before it are quantized), and ``fold``
    (see ``Folding``).

    A class that says ``fits_energies = True`` weighs errors of 4-bit blocks with ``Slab.energies``; for it alone, int4
    builds of narrow models rescale channels and follow tokens by default.
    """

    Options: ClassVar[type[BaseModel]]
    precisions: ClassVar[tuple[Precision, ...]]
    needs_activations: ClassVar[bool]
    options: BaseModel
    """The options with every default of this precision spelled out; they enter the recipe."""

    def __init__(self, precision: Precision, options: Any) -> None: ...

    def scheme(self, parameter: Parameter) -> Scheme:
        """Say how small a parameter gets; depends on nothing but the parameter."""
        ...

    def quantize(
        self,
        parameter: Parameter,
        slab: Slab,
        out: TileWriter,
        activations: LayerActivations | None = None,
    ) -> None:
        """Fill every tile of ``out`` with what stands for those rows of the slab. Safe to call from several threads.

        How the tiles lie in a package is the target's matter.
        """
        ...
