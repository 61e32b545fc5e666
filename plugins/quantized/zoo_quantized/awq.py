"""AWQ in the gemm order: 4-bit integers packed along the outputs, eight to a word in the order 0 2 4 6 1 3 5 7.

``qweight`` int32 (in, out / 8), ``qzeros`` int32 (groups, out / 8), ``scales`` (groups, out).

Source: AutoAWQ 0.2.9, modules/linear/gemm.py, ``WQLinear_GEMM.from_linear``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from zoo import Checkpoint, ZooError
from zoo_quantized.stored import Stored, unpacked
from zoo_quantized.weights import (
    Dequantized,
    Grouped,
    Integers,
    NoOptions,
    Weight,
    group_size,
    modules,
    quantization,
)

PLACES = (0, 4, 1, 5, 2, 6, 3, 7)
"""Where in a word each of eight outputs lies."""


class AwqWeight(Grouped):
    """One linear."""

    def __init__(self, stored: Stored, module: str, group: int) -> None:
        inputs, words = stored.matrix(f"{module}.qweight")
        super().__init__(module, (words * 8, inputs), 4, group, symmetric=False)
        if inputs % self.group:
            raise ZooError(f"{module}: groups of {self.group} do not divide its {inputs} inputs")
        stored.expect(f"{module}.qweight", (inputs, words), "I32")
        stored.expect(f"{module}.qzeros", (self.groups, words), "I32")
        self.expect_scales(stored, "scales", (self.groups, words * 8))
        self._stored = stored

    def integers(self, start: int, stop: int) -> Integers:
        """Unpack a band of outputs."""
        name = f"{self.name}.scales"
        scales = self._stored.floats(name, np.ascontiguousarray(self._stored.columns(name, start, stop).T))
        return Integers(self._outputs("qweight", start, stop), scales, self._outputs("qzeros", start, stop))

    def _outputs(self, part: str, start: int, stop: int) -> NDArray[np.uint8]:
        """Unpack outputs, (stop - start, stored rows)."""
        first, last = start // 8, -(-stop // 8)
        words = self._stored.columns(f"{self.name}.{part}", first, last)
        levels = unpacked(np.ascontiguousarray(words.T)[..., None], 4)  # (words, stored rows, 8)
        outputs = levels[..., PLACES].transpose(0, 2, 1).reshape(-1, len(words))
        return outputs[start - first * 8 : stop - first * 8]


class Awq:
    """Reads AWQ (the ``Transform`` protocol)."""

    Options = NoOptions
    quant_methods: ClassVar[tuple[str, ...]] = ("awq",)

    def apply(self, checkpoint: Checkpoint, options: NoOptions) -> Dequantized:
        """See every packed linear as its weight.

        Raises:
            ZooError: a width or an order that is not read, or tensors that do not belong together.
        """
        config = quantization(checkpoint)
        bits: Any = config.get("bits", config.get("w_bit"))
        order = str(config.get("version", config.get("format", "gemm"))).lower()
        group = group_size(checkpoint.name, config.get("group_size", config.get("q_group_size", 128)))
        if bits != 4 or order != "gemm":
            raise ZooError(
                f"{checkpoint.name}: AWQ of {str(bits)[:20]} bits in the order {order[:40]!r} is not read; "
                "4 bits, gemm is"
            )

        def find(stored: Stored) -> tuple[Mapping[str, Weight], Iterable[str]]:
            names = modules(stored, "qweight")
            weights: dict[str, Weight] = {f"{module}.weight": AwqWeight(stored, module, group) for module in names}
            return weights, [f"{module}.{part}" for module in names for part in ("qweight", "qzeros", "scales")]

        return Dequantized(checkpoint, "awq", find)
