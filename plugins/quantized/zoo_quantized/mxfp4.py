"""MXFP4 as gpt-oss stores its experts: 4-bit floats in blocks of 32 that share a power of two.

``NAME_blocks`` uint8 (experts, out, blocks, 16), the even value in the low half; ``NAME_scales`` uint8 (experts, out,
blocks), exponents raised by 127. NAME is seen as (experts, out, in), as it lies there; transformers transposes it.

Source: OCP Microscaling Formats 1.0, 5.2 and 5.3 (E2M1, E8M0); transformers, integrations/mxfp4.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from zoo import Checkpoint, ZooError
from zoo_quantized.stored import Stored
from zoo_quantized.weights import Dequantized, NoOptions, Weight, quantization

HALF = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
E2M1 = np.array([*HALF, *(-value for value in HALF)], np.float32)
"""The value of each bit pattern."""
BLOCKS, SCALES = "_blocks", "_scales"


class Mxfp4Weight(Weight):
    """The matrices of a layer's experts, or one matrix."""

    def __init__(self, stored: Stored, name: str) -> None:
        info = stored.info(name + BLOCKS)
        if info.dtype != "U8" or len(info.shape) < 3 or 0 in info.shape or info.shape[-1] != 16:
            raise ZooError(f"tensor '{name + BLOCKS}' is {info.dtype} {list(info.shape)}, not blocks of 16 bytes")
        stored.expect(name + SCALES, info.shape[:-1], "U8")
        *rows, self._each, _ = info.shape
        self.shape = (*rows, self._each * 32)
        self._stored, self._name = stored, name

    def floats(self, start: int, stop: int) -> NDArray[np.float32]:
        """Look values up and scale each block."""
        stored, each = self._stored, self._each
        raw = stored.rows(self._name + BLOCKS, start * each, stop * each)
        codes = np.empty((len(raw), 32), np.uint8)
        codes[:, 0::2], codes[:, 1::2] = raw & 15, raw >> 4
        exponents = stored.rows(self._name + SCALES, start, stop).reshape(-1)
        if (exponents == 255).any():
            raise ZooError(f"tensor '{self._name + SCALES}' holds NaN; the checkpoint is damaged")
        values = np.ldexp(E2M1[codes], exponents.astype(np.int32)[:, None] - 127)
        return values.astype(np.float32, copy=False).reshape(stop - start, each * 32)


class Mxfp4:
    """Reads MXFP4 (the ``Transform`` protocol)."""

    Options = NoOptions
    quant_methods: ClassVar[tuple[str, ...]] = ("mxfp4",)

    def apply(self, checkpoint: Checkpoint, options: NoOptions) -> Dequantized:
        """See every pair of blocks and scales as its weight.

        Raises:
            ZooError: tensors that do not belong together.
        """
        quantization(checkpoint)

        def find(stored: Stored) -> tuple[Mapping[str, Weight], Iterable[str]]:
            names = sorted(name.removesuffix(BLOCKS) for name in stored.base.tensors if name.endswith(BLOCKS))
            weights: dict[str, Weight] = {name: Mxfp4Weight(stored, name) for name in names}
            return weights, [name + part for name in names for part in (BLOCKS, SCALES)]

        return Dequantized(checkpoint, "mxfp4", find)
