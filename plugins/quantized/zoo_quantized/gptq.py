"""GPTQ: integers packed along the inputs, zero points along the outputs, scales in groups of inputs.

``qweight`` int32 (in · bits / 32, out), ``qzeros`` int32 (groups, out · bits / 32), ``scales`` (groups, out), ``g_idx``
int32 (in,): the group of each input, in any order where ``desc_act`` is set. The first format stores each zero point
less one, ``checkpoint_format: gptq_v2`` the zero point itself.

Source: GPTQModel 7.7, nn_modules/qlinear (``pack_original``) and utils/model.py (``convert_gptq_v1_to_v2_format``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import ClassVar

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
    setting,
)


class GptqWeight(Grouped):
    """One linear.

    Args:
        lowered: zero points are stored less one.
        sorted_groups: the configuration says that groups follow each other.
    """

    def __init__(
        self, stored: Stored, module: str, bits: int, group: int, *, symmetric: bool, lowered: bool, sorted_groups: bool
    ) -> None:
        words, outputs = stored.matrix(f"{module}.qweight")
        inputs = words * 32 // bits
        super().__init__(module, (outputs, inputs), bits, group, symmetric=symmetric)
        stored.expect(f"{module}.qweight", (words, outputs), "I32")
        self.expect_scales(stored, "scales", (self.groups, outputs))
        stored.expect(f"{module}.qzeros", (self.groups, -(-outputs * bits // 32)), "I32")
        if f"{module}.g_idx" in stored.base.tensors:
            stored.expect(f"{module}.g_idx", (inputs,), "I32")
        self._stored, self._lowered, self._sorted = stored, lowered, sorted_groups

    def order(self) -> NDArray[np.intp] | None:
        """The group of each input, unless they follow each other.

        Before the weights are on this machine the configuration's word is taken for it.
        """
        return self.read_order(self._stored, "g_idx", sorted_groups=self._sorted)

    def integers(self, start: int, stop: int) -> Integers:
        """Unpack a band of outputs."""
        stored, per = self._stored, 32 // self.bits
        levels = unpacked(stored.columns(f"{self.name}.qweight", start, stop).T, self.bits)
        name = f"{self.name}.scales"
        scales = stored.floats(name, np.ascontiguousarray(stored.columns(name, start, stop).T))
        first = start // per
        words = stored.columns(f"{self.name}.qzeros", first, -(-stop // per))
        if self._lowered:  # word by word, as they were lowered: a zero borrowed from its neighbour
            words = words.view(np.uint32) + np.uint32(0x11111111 if self.bits == 4 else 0x01010101)
        points = unpacked(words, self.bits)[:, start - first * per : stop - first * per].T
        return Integers(levels, scales, points)


class Gptq:
    """Reads GPTQ (the ``Transform`` protocol)."""

    Options = NoOptions
    quant_methods: ClassVar[tuple[str, ...]] = ("gptq",)

    def apply(self, checkpoint: Checkpoint, options: NoOptions) -> Dequantized:
        """See every packed linear as its weight.

        Raises:
            ZooError: a width or a format that is not read, or tensors that do not belong together.
        """
        config = quantization(checkpoint)
        bits, group = setting(config, "bits", int), group_size(checkpoint.name, config.get("group_size", -1))
        if bits not in (4, 8):
            raise ZooError(f"{checkpoint.name}: GPTQ of {bits} bits is not read; 4 and 8 are")
        form = config.get("checkpoint_format") or "gptq"
        if form not in ("gptq", "gptq_v2"):
            raise ZooError(
                f"{checkpoint.name}: GPTQ in the format {str(form)[:40]!r} is not read; gptq and gptq_v2 are"
            )
        settings = {
            "symmetric": bool(setting(config, "sym", bool, True)),
            "lowered": form == "gptq",
            "sorted_groups": not setting(config, "desc_act", bool, False),
        }
        if config.get("dynamic"):
            raise ZooError(f"{checkpoint.name}: GPTQ with settings by module (dynamic) is not read")

        def find(stored: Stored) -> tuple[Mapping[str, Weight], Iterable[str]]:
            names = modules(stored, "qweight")
            weights: dict[str, Weight] = {
                f"{module}.weight": GptqWeight(stored, module, bits, group, **settings) for module in names
            }
            parts = ("qweight", "qzeros", "scales", "g_idx")
            return weights, [f"{module}.{part}" for module in names for part in parts]

        return Dequantized(checkpoint, "gptq", find)
