"""Round to nearest: every block of a row gets the scale that its own values ask for.

8 bits, symmetric: scale = max|x| / 127. 4 bits, symmetric: the value of largest magnitude maps to -8 exactly, whatever
its sign, so scale = -x_extreme / 8 and the sixteen levels are all used; the squared error is about a fifth lower than
with max|x| / 7. Asymmetric: scale = (max - min) / (2**bits - 1) with zero always among the levels. Where a build knows
the energies of a weight's inputs, 4-bit blocks get the scale that they ask for (``zoo.quantizers.fitting``).

What levels, scales and zero points stand for: ``zoo.declarations.scheme``.
"""

from __future__ import annotations

import fnmatch
import math
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer

from zoo.contracts import BlockTile, FloatTile, LayerActivations, Parameter, Slab, TileWriter
from zoo.declarations.base import Value
from zoo.declarations.recipe import Precision
from zoo.declarations.scheme import BlockScheme, FloatScheme, FloatType, Scheme
from zoo.quantizers.fitting import fit_blocks
from zoo.quantizers.floats import copy_floats
from zoo.quantizers.narrow import settle

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

BlockSize = Literal[16, 32, 64, 128, 256]
Bits = Literal[4, 8]
_TINY = 2.0**-126
"""The smallest normal float32. A block of smaller values than its multiples can carry is stored as zeros."""


class RtnOptions(Value):
    """How blocks are cut. What is not stated follows from the precision."""

    block_size: BlockSize | Literal["row", "by-width"] | None = None
    """Columns that share a scale, at most; ``by-width`` for int8, 32 for int4. A matrix that it does not divide gets
    less. ``row``: a whole row, one scale for each output channel. ``by-width``: 32 in rows of fewer than 1,024 columns,
    64 in rows of fewer than 2,048, else 128."""
    symmetric: bool | None = None
    """Zero is the middle level; otherwise each block has a zero point, which costs a little size and no speed. int8
    gains nothing by it and is symmetric unless stated; int4 gains much and is not, save weights that get 8 bits."""
    head_bits: Bits | None = None
    """Bits of the output head; 8 unless stated."""
    embedding_bits: Bits | None = None
    """Bits of the token embedding; 8 unless stated."""
    scale_type: FloatType = "float32"
    """What scales are stored as, unless the target decides it. It enters the recipe only where it is not float32."""
    keep: dict[str, Precision] = Field(default_factory=dict)
    """Weights at a precision of their own: a pattern of names or roles (``lm_head``, ``*.layers.0.*``,
    ``mlp.down_proj``) → fp32, fp16, int8 or int4. The first pattern that matches counts."""

    @model_serializer(mode="wrap")
    def _stated(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        fields: dict[str, Any] = handler(self)
        if self.scale_type == "float32":
            del fields["scale_type"]
        return fields


class Rtn:
    """Quantize matrices to 8 or 4 bits by rounding; norms and biases stay float32."""

    Options: ClassVar[type[RtnOptions]] = RtnOptions
    precisions: ClassVar[tuple[Precision, ...]] = ("int8", "int4")
    needs_activations: ClassVar[bool] = False
    fits_energies: ClassVar[bool] = True

    def __init__(self, precision: Precision, options: RtnOptions) -> None:
        self.bits: Bits = 4 if precision == "int4" else 8
        self.options = RtnOptions(
            block_size=options.block_size or (32 if self.bits == 4 else "by-width"),
            symmetric=options.symmetric if options.symmetric is not None else self.bits == 8,
            head_bits=options.head_bits or 8,
            embedding_bits=options.embedding_bits or 8,
            scale_type=options.scale_type,
            keep=options.keep,
        )

    def scheme(self, parameter: Parameter) -> Scheme:
        """Cut linears, the head and the embedding into blocks; keep vectors as they are."""
        options = self.options
        if parameter.kind not in ("linear", "embedding"):
            return FloatScheme(dtype="float32")
        bits: Any = self.bits
        kept = self._kept(parameter)
        if kept in ("fp32", "fp16"):
            return FloatScheme(dtype="float32" if kept == "fp32" else "float16")
        if kept is not None:
            bits = 4 if kept == "int4" else 8
        elif parameter.kind == "embedding":
            bits = options.embedding_bits
        elif parameter.role == "lm_head":
            bits = options.head_bits
        columns, beside = parameter.shape[-1], parameter.beside or 0
        if options.block_size == "row":
            block = max(16, columns)
        else:
            size = options.block_size
            wanted = block_by_width(max(columns, beside)) if size is None or size == "by-width" else size
            if bits > self.bits:  # a step that is so much finer loses little in longer blocks, and they are read faster
                wanted = max(wanted, 128)
            block = fitting_block(wanted, math.gcd(columns, beside))
        symmetric = bool(options.symmetric) or bits > self.bits
        return BlockScheme(bits=bits, block_size=block, symmetric=symmetric, scale_type=options.scale_type)

    def _kept(self, parameter: Parameter) -> Precision | None:
        """The precision that an option gives this very weight."""
        for pattern, precision in self.options.keep.items():
            if any(fnmatch.fnmatchcase(name, pattern) for name in (parameter.name, parameter.role)):
                return precision
        return None

    def quantize(
        self, parameter: Parameter, slab: Slab, out: TileWriter, activations: LayerActivations | None = None
    ) -> None:
        """Round the slab's rows, tile by tile."""
        round_to_nearest(slab, out)


def round_to_nearest(slab: Slab, out: TileWriter) -> None:
    """Fill the slab's rows by rounding each block to the scale that its own values ask for."""
    scheme = out.scheme
    for tile in out.tiles(slab.tile_rows):
        if isinstance(tile, FloatTile) or isinstance(scheme, FloatScheme):
            copy_floats(slab, tile)
        else:
            round_tile(scheme, slab, tile)


def round_tile(scheme: BlockScheme, slab: Slab, tile: BlockTile) -> None:
    """Fill rows of a slab by rounding each block to the scale that its own values ask for."""
    if tile.zero_points is None:
        _symmetric(scheme, slab, tile)
    else:
        _asymmetric(scheme, slab, tile, tile.zero_points)


def _symmetric(scheme: BlockScheme, slab: Slab, tile: BlockTile) -> None:
    import numpy as np

    block, bits, scales = scheme.block_size, scheme.bits, tile.scales
    if bits == 8:
        np.divide(slab.absmax(tile.start, tile.stop, block), np.float32(127), out=scales)
    elif slab.energies is None:
        np.divide(slab.extreme(tile.start, tile.stop, block), np.float32(-8), out=scales)
    else:
        scales[...], _ = fit_blocks(slab, tile, scheme)
    settle(scales, scheme.scale_type)
    middle = np.float32(2 ** (bits - 1) + 0.5)
    blocks = _divide_by(slab, tile, block)
    np.add(blocks, middle, out=blocks)
    _cut(blocks, scheme, tile.levels)


def _asymmetric(scheme: BlockScheme, slab: Slab, tile: BlockTile, zero_points: NDArray[np.uint8]) -> None:
    import numpy as np

    block, bits, scales = scheme.block_size, scheme.bits, tile.scales
    levels = np.float32(2**bits - 1)
    if bits == 8 or slab.energies is None:
        low, high = slab.extremes(tile.start, tile.stop, block)
        # The halves are subtracted: the difference of two float32 may exceed the largest one.
        np.multiply(high / levels - low / levels, np.float32(1), out=scales)
        settle(scales, scheme.scale_type)
        safe = np.where(scales > 0, scales, np.float32(1))
        zeros = np.clip(np.rint(-low / safe), 0, levels)
    else:
        scales[...], zeros = fit_blocks(slab, tile, scheme)
    blocks = _divide_by(slab, tile, block)
    np.add(blocks, (zeros + np.float32(0.5))[..., None], out=blocks)
    # The smallest value comes out at 0 or between 0 and 1, the largest may reach one level too high.
    if bits == 8:
        np.minimum(blocks, levels, out=blocks)
    _cut(blocks, scheme, tile.levels)
    zero_points[...] = zeros.astype(np.uint8)


def _cut(blocks: NDArray[np.float32], scheme: BlockScheme, levels: NDArray[np.uint8]) -> None:
    """Cut float levels down to integers."""
    import numpy as np

    if scheme.bits == 4 or scheme.scale_type != "float32":  # a scale that is narrower than its values' range
        np.clip(blocks, 0, 2**scheme.bits - 1, out=blocks)
    np.copyto(levels, blocks, casting="unsafe")


def block_by_width(columns: int) -> BlockSize:
    """Choose how many columns share a scale: about a sixteenth of a row.

    Activations are rounded in the same blocks. A wide row has many; in a narrow one of a trained model a single outlier
    takes a large share of the row with it.
    """
    return 32 if columns < 1024 else 64 if columns < 2048 else 128


def fitting_block(wanted: BlockSize, columns: int) -> BlockSize:
    """Choose the largest block, of at most ``wanted`` columns, that leaves the least padding at a row's end."""
    sizes: tuple[BlockSize, ...] = (256, 128, 64, 32, 16)
    return min((size for size in sizes if size <= wanted), key=lambda one: (-columns % one, -one))


def _divide_by(slab: Slab, tile: BlockTile, block: int) -> NDArray[np.float32]:
    """The rows in units of their blocks' scales, (rows, blocks, block); scales too small to divide by become zero."""
    import numpy as np

    scales = tile.scales
    usable = np.abs(scales) >= np.float32(_TINY)
    if not usable.all():
        np.copyto(scales, np.float32(0), where=~usable)
    inverse = np.divide(np.float32(1), scales, out=np.zeros_like(scales), where=usable)
    return slab.scaled(tile.start, tile.stop, inverse, block)
