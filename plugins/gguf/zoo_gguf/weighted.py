"""The quantizer ``imatrix``: rounding that weighs each column's error by what enters it, as an imatrix file states.

Each block tries some scales, from half its range to a tenth more, fits each to its levels by least squares, and takes
the one that loses least, Σ importance · (value - stored)², as ``make_qx_quants`` in llama.cpp's ``ggml-quants.c`` does.
"""

from __future__ import annotations

import hashlib
import math
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, field_validator

from zoo import (
    BlockScheme,
    BlockTile,
    FloatScheme,
    LayerActivations,
    Parameter,
    Scheme,
    Slab,
    TileWriter,
    ZooError,
    narrowed,
    widened,
)
from zoo_gguf.architectures import ARCHITECTURES, VARIANTS
from zoo_gguf.imatrix import importance, read_imatrix

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from zoo.declarations.recipe import Precision

SHARES = (1.0, *(0.5 + step / 20 for step in range(13) if step != 10))
"""Of the range that a block's values have."""
_SHORT = {name: short for arch in (*ARCHITECTURES.values(), *(variant for _, variant in VARIANTS.values()))
          for short, name in {**arch.layer, **arch.experts}.items()}  # fmt: skip
_SHORT |= {"mlp.experts.gate_up_proj": "ffn_gate_exps", "mlp.experts.down_proj": "ffn_down_exps"}
_READ: dict[str, dict[str, NDArray[np.float32]]] = {}
"""Files that options named, by the SHA-256 that the recipe states."""


class ImatrixOptions(BaseModel):
    """Which file, and how blocks are cut."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    file: str
    """The imatrix file; the recipe states its SHA-256 in this place."""
    block_size: Literal[16, 32, 64, 128] = 32
    symmetric: bool | None = None
    """Zero is the middle level; int8 is symmetric unless stated, int4 is not."""

    @field_validator("file")
    @classmethod
    def _read(cls, value: str) -> str:
        if re.fullmatch("[0-9a-f]{64}", value):
            return value
        path = Path(value).expanduser()
        values = read_imatrix(path)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        _READ[digest] = values
        return digest


class Imatrix:
    """Round matrices, weighing errors by importance; embeddings, and what has no entry, by their values alone."""

    Options: ClassVar[type[ImatrixOptions]] = ImatrixOptions
    precisions: ClassVar[tuple[Precision, ...]] = ("int8", "int4")
    needs_activations: ClassVar[bool] = False

    def __init__(self, precision: Precision, options: ImatrixOptions) -> None:
        self._bits: Literal[4, 8] = 4 if precision == "int4" else 8
        symmetric = self._bits == 8 if options.symmetric is None else options.symmetric
        self.options = options.model_copy(update={"symmetric": symmetric})

    def scheme(self, parameter: Parameter) -> Scheme:
        """Cut matrices into blocks; the head and the embedding have 8 bits."""
        if parameter.kind not in ("linear", "embedding"):
            return FloatScheme(dtype="float32")
        common = math.gcd(parameter.shape[-1], parameter.beside or 0)
        size = next((one for one in (128, 64, 32, 16) if one <= self.options.block_size and common % one == 0), 32)
        outer = parameter.kind == "embedding" or parameter.role == "lm_head"
        return BlockScheme(bits=8 if outer else self._bits, block_size=size, symmetric=bool(self.options.symmetric))

    def quantize(
        self, parameter: Parameter, slab: Slab, out: TileWriter, activations: LayerActivations | None = None
    ) -> None:
        """Round the slab's rows."""
        import numpy as np

        weights = self._importance(parameter)
        for tile in out.tiles(slab.tile_rows):
            if not isinstance(tile, BlockTile):
                rows = {"float32": slab.float32, "float16": slab.float16}.get(tile.values.dtype.name, slab.bfloat16)
                tile.values[...] = rows(tile.start, tile.stop)
                continue
            count, size = tile.levels.shape[1:]
            values = slab.float32(tile.start, tile.stop, count * size).reshape(tile.levels.shape)
            padded = np.zeros(count * size, np.float32)
            padded[: slab.columns] = 1 if weights is None else weights
            assert isinstance(out.scheme, BlockScheme)
            _fit(values, padded.reshape(count, size), out.scheme, tile)

    def _importance(self, parameter: Parameter) -> NDArray[np.float32] | None:
        """Find what the columns of a linear are worth, 1 on the average."""
        if self.options.file not in _READ:
            raise ZooError(
                f"the imatrix of SHA-256 {self.options.file[:12]}… is not open; --quantizer-option file=PATH names it"
            )
        if parameter.kind != "linear" or any(each.pad_columns is not None for each in parameter.slices):
            return None
        names = [_entry(each.tensor) for each in parameter.slices]
        values = importance(_READ[self.options.file], names)
        if values is None:
            if parameter.role == "lm_head":  # llama-imatrix leaves it out unless asked
                return None
            raise ZooError(f"the imatrix has no entry {names[0]!r} for {parameter.name}; it is of another model")
        if len(values) != parameter.columns:
            raise ZooError(
                f"the imatrix has {len(values)} values for {parameter.name}, which has {parameter.columns} columns; "
                "it is of another model"
            )
        return values / values.mean() + 1e-3  # nothing at all would leave a scale open


def _entry(tensor: str) -> str:
    """Name a tensor of a checkpoint as llama.cpp does; a name that it does not have stays."""
    layer = re.fullmatch(r"(?:model\.)?layers\.(\d+)\.(.+?)(?:\.weight)?", tensor)
    if layer is None:
        return "output.weight" if tensor == "lm_head.weight" else tensor
    short = _SHORT.get(re.sub(r"\.experts\.\d+\.", ".experts.{}.", layer[2]))
    return f"blk.{layer[1]}.{short}.weight" if short else tensor


def _fit(values: NDArray[np.float32], weights: NDArray[Any], scheme: BlockScheme, tile: BlockTile) -> None:
    """Choose the scale, zero point and levels of each block of ``values``, (rows, blocks, block)."""
    import numpy as np

    top, middle = 2**scheme.bits - 1, 2 ** (scheme.bits - 1)
    low, high = np.minimum(values.min(-1), 0), np.maximum(values.max(-1), 0)
    if scheme.symmetric and scheme.bits == 4:
        whole = np.where(high > -low, high, low) / -middle
    elif scheme.symmetric:
        whole = np.maximum(high, -low) / (middle - 1)
    else:
        whole = high / top - low / top
    least = np.full(whole.shape, np.inf, np.float32)
    for share in SHARES if scheme.bits == 4 else SHARES[:1]:
        scale = _stored(whole * np.float32(share), scheme)
        safe = np.where(scale == 0, 1, scale)
        zero = np.full_like(scale, middle) if scheme.symmetric else np.clip(np.rint(-low * share / safe), 0, top)
        levels = np.clip(np.rint(values / safe[..., None] + zero[..., None]), 0, top)
        steps = levels - zero[..., None]
        square = (weights * steps * steps).sum(-1)
        fitted = (weights * steps * values).sum(-1) / np.where(square > 0, square, 1)
        scale = _stored(np.where(square > 0, fitted, 0).astype(np.float32), scheme)
        error = (weights * (steps * scale[..., None] - values) ** 2).sum(-1)
        better = error < least
        least = np.where(better, error, least)
        tile.scales[better] = scale[better]
        tile.levels[better] = levels[better].astype(np.uint8)
        if tile.zero_points is not None:
            tile.zero_points[better] = zero[better].astype(np.uint8)


def _stored(scales: NDArray[np.float32], scheme: BlockScheme) -> NDArray[np.float32]:
    """Round scales to what they are stored as; one that is too small to divide by is none."""
    import numpy as np

    rounded = widened(narrowed(scales.astype(np.float32), scheme.scale_type), scheme.scale_type)
    return np.where(np.abs(rounded) >= np.float32(2.0**-126), rounded, np.float32(0))
