"""The quantizer ``imatrix``: rounding that weighs each column's error by what enters it, as an imatrix file states.

4-bit blocks are fitted as zoo fits those of rounding to nearest, with the file's values for the energies of the inputs;
8-bit ones keep the scale that their own values ask for, as llama.cpp's Q8_0 does.
"""

from __future__ import annotations

import hashlib
import math
import re
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, field_validator

from zoo import (
    BlockScheme,
    FloatScheme,
    LayerActivations,
    Parameter,
    Scheme,
    Slab,
    TileWriter,
    ZooError,
    round_to_nearest,
)
from zoo_gguf.architectures import ARCHITECTURES, VARIANTS
from zoo_gguf.imatrix import importance, read_imatrix

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from zoo.declarations.recipe import Precision

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

        worth = self._importance(parameter)
        slab.energies = np.ones(slab.columns, np.float32) if worth is None else worth
        round_to_nearest(slab, out)

    def _importance(self, parameter: Parameter) -> NDArray[np.float32] | None:
        """Find what the columns of a linear are worth."""
        if self.options.file not in _READ:
            raise ZooError(
                f"the imatrix of SHA-256 {self.options.file[:12]}… is not open; --quantizer-option file=PATH names it"
            )
        if parameter.kind != "linear" or any(each.pad_columns is not None for each in parameter.slices):
            return None
        names = [_entry(each.tensor) for each in parameter.slices]
        if parameter.experts and all(name == names[0] for name in names):  # a head's matrices have entries of their own
            return None
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
        return values


def _entry(tensor: str) -> str:
    """Name a tensor of a checkpoint as llama.cpp does; a name that it does not have stays."""
    layer = re.fullmatch(r"(?:model\.)?layers\.(\d+)\.(.+?)(?:\.weight)?", tensor)
    if layer is None:
        return "output.weight" if tensor == "lm_head.weight" else tensor
    short = _SHORT.get(re.sub(r"\.experts\.\d+\.", ".experts.{}.", layer[2]))
    return f"blk.{layer[1]}.{short}.weight" if short else tensor
