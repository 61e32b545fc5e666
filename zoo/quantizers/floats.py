"""Weights kept as floating point numbers: fp32 and fp16."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from zoo.contracts import LayerActivations, Parameter, Slab
from zoo.declarations.base import Value
from zoo.declarations.recipe import Precision
from zoo.declarations.storage import FloatStorage

if TYPE_CHECKING:
    from numpy.typing import NDArray


class FloatOptions(Value):
    """There is nothing to choose."""


class Float:
    """Store weights as float32 or float16; norms and biases stay float32."""

    Options: ClassVar[type[FloatOptions]] = FloatOptions
    precisions: ClassVar[tuple[Precision, ...]] = ("fp32", "fp16")
    needs_activations: ClassVar[bool] = False

    def __init__(self, precision: Precision, options: FloatOptions) -> None:
        self.precision = precision
        self.options = options

    def storage(self, parameter: Parameter) -> FloatStorage:
        """Keep matrices in the precision's type and vectors in float32."""
        half = self.precision == "fp16" and parameter.kind in ("linear", "embedding")
        return FloatStorage(dtype="float16" if half else "float32")

    def quantize(
        self,
        parameter: Parameter,
        slab: Slab,
        out: Mapping[str, NDArray[Any]],
        activations: LayerActivations | None = None,
    ) -> None:
        """Copy the slab's rows, tile by tile."""
        weight = out["weight"].reshape(slab.rows, slab.columns)
        half = weight.dtype.itemsize == 2
        for start in range(0, slab.rows, slab.tile_rows):
            stop = min(start + slab.tile_rows, slab.rows)
            weight[start:stop] = slab.float16(start, stop) if half else slab.float32(start, stop)
