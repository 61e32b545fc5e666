"""FP8 with scales, as DeepSeek's: ``weight`` float8_e4m3fn (out, in), ``weight_scale_inv`` a factor for each block.

A block is 128 × 128 unless ``weight_block_size`` says another; a scale of one value counts for all.

Source: DeepSeek-V3, inference/kernel.py (``weight_dequant``); transformers, integrations/finegrained_fp8.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from zoo import Checkpoint, ZooError
from zoo_quantized.floats8 import e4m3
from zoo_quantized.stored import Stored
from zoo_quantized.weights import Dequantized, NoOptions, Weight, modules, quantization

UNSEEN = (".weight_scale_inv", ".weight_scale", ".input_scale", ".activation_scale", ".k_scale", ".v_scale")


class Fp8Weight(Weight):
    """One matrix of 8-bit floats and the scales of its blocks.

    Args:
        block: rows and columns of a block.
    """

    def __init__(self, stored: Stored, name: str, scale: str, block: tuple[int, int]) -> None:
        info = stored.info(name)
        if info.dtype != "F8_E4M3":
            raise ZooError(f"tensor {name!r} is {info.dtype}; of 8-bit floats float8_e4m3fn is read")
        stored.matrix(name)
        self.shape, self._block = (info.shape[0], info.shape[1]), block
        self._stored, self._name, self._scale = stored, name, scale
        rows, columns = (-(-size // step) for size, step in zip(info.shape, block, strict=True))
        shape = stored.info(scale).shape
        if shape != (rows, columns):
            if int(np.prod(shape)) != 1:
                raise ZooError(
                    f"tensor {scale!r} is {list(shape)}, but blocks of {block[0]} x {block[1]} in {list(info.shape)} "
                    f"make it {[rows, columns]}"
                )
            self._block = info.shape  # type: ignore[assignment]

    def floats(self, start: int, stop: int) -> NDArray[np.float32]:
        """Multiply rows by the scales of their blocks."""
        stored, (tall, wide) = self._stored, self._block
        values = e4m3(self._name, stored.rows(self._name, start, stop))
        scales = stored.floats(self._scale, stored.whole(self._scale))
        scales = scales.reshape(-(-self.shape[0] // max(1, tall)), -1)[np.arange(start, stop) // tall]
        values *= scales[:, np.arange(self.shape[1]) // wide]
        return values


class Fp8:
    """Reads FP8 with scales of blocks (the ``Transform`` protocol)."""

    Options = NoOptions
    quant_methods: ClassVar[tuple[str, ...]] = ("fp8",)

    def apply(self, checkpoint: Checkpoint, options: NoOptions) -> Dequantized:
        """See every matrix of 8-bit floats as its weight.

        Raises:
            ZooError: another 8-bit format, or scales that do not fit.
        """
        config = quantization(checkpoint)
        form, size = config.get("fmt", "e4m3"), config.get("weight_block_size")
        if form != "e4m3":
            raise ZooError(f"{checkpoint.name}: FP8 in {str(form)[:40]!r} is not read; e4m3 is")
        if size is not None and not (
            isinstance(size, list) and len(size) == 2 and all(isinstance(n, int) and n > 0 for n in size)
        ):
            raise ZooError(f"{checkpoint.name}: quantization_config states weight_block_size {str(size)[:40]}")
        block = (size[0], size[1]) if size else (128, 128)

        def find(stored: Stored) -> tuple[Mapping[str, Weight], Iterable[str]]:
            tensors = stored.base.tensors
            weights: dict[str, Weight] = {}
            for module in modules(stored, "weight"):
                name = f"{module}.weight"
                if tensors[name].dtype.startswith("F8"):
                    scale = next(
                        (s for s in (f"{name}_scale_inv", f"{name}_scale") if s in tensors), f"{name}_scale_inv"
                    )
                    weights[name] = Fp8Weight(stored, name, scale, block)
            return weights, [name for name in tensors if name.endswith(UNSEEN)]

        return Dequantized(checkpoint, "fp8", find)
