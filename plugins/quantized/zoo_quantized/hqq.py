"""HQQ with groups along the inputs (axis 1): ``W_q`` uint8; a group's values are (q - ``zero``) · ``scale``.

Groups lie one behind the other, row after row, (groups, group_size). 8 bits: one a byte. 4 bits: the first half of all
groups in the high halves of the bytes, the second half in the low ones. Zeros are floats, so nothing is taken over.

Source: hqq 0.2.8, core/quantize.py (``Quantizer.dequantize``, ``HQQLinear.state_dict``) and core/bitpack.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from zoo import Checkpoint, ZooError
from zoo_quantized.stored import Stored
from zoo_quantized.weights import Dequantized, NoOptions, Weight, group_size, modules, quantization

PARTS = (
    "W_q", "scale", "zero", "nbits", "group_size", "shape", "axis", "packing", "unpack_view_dtype", "view_as_float",
    "channel_wise", "optimize", "round_zero", "offload_meta", "encoded_state_dict", "stores_quant_config",
    "compute_dtype", "quant_scale", "quant_zero",
)  # fmt: skip


class HqqWeight(Weight):
    """One linear of ``bits`` a value, in groups of ``group`` inputs."""

    def __init__(self, stored: Stored, module: str, bits: int, group: int) -> None:
        packed = stored.info(f"{module}.W_q")
        if packed.dtype != "U8" or len(packed.shape) != 2 or packed.shape[1] != group:
            raise ZooError(
                f"tensor '{module}.W_q' is {packed.dtype} {list(packed.shape)}, not uint8 in groups of {group}"
            )
        groups = packed.shape[0] * 8 // bits
        stored.expect(f"{module}.scale", (groups, 1), "F16", "BF16", "F32")
        stored.expect(f"{module}.zero", (groups, 1), "F16", "BF16", "F32")
        self._stored, self._module, self._bits, self._group = stored, module, bits, group
        self._groups = groups
        self.shape = self._shape()

    def _shape(self) -> tuple[int, int]:
        name = f"{self._module}.shape"
        shape = self._stored.whole(name).reshape(-1).tolist() if self._stored.info(name).dtype in ("I32", "I64") else []
        if (
            len(shape) != 2
            or min(shape) < 1
            or shape[0] * shape[1] != self._groups * self._group
            or shape[1] % self._group
        ):
            raise ZooError(
                f"tensor '{self._module}.shape' says {shape}, which {self._groups} groups of {self._group} do not fill"
            )
        return shape[0], shape[1]

    def floats(self, start: int, stop: int) -> NDArray[np.float32]:
        """Compute (q - zero) · scale in float32."""
        stored, each = self._stored, self.shape[1] // self._group
        first, last = start * each, stop * each
        values = self._levels(first, last).astype(np.float32)
        for part in ("zero", "scale"):
            name = f"{self._module}.{part}"
            held = stored.floats(name, stored.rows(name, first, last))
            values = values - held if part == "zero" else values * held
        return values.reshape(stop - start, self.shape[1])

    def _levels(self, first: int, last: int) -> NDArray[np.uint8]:
        name = f"{self._module}.W_q"
        if self._bits == 8:
            return self._stored.rows(name, first, last)
        half, pieces = self._groups // 2, []
        if first < half:
            pieces.append(self._stored.rows(name, first, min(last, half)) >> 4)
        if last > half:
            pieces.append(self._stored.rows(name, max(first, half) - half, last - half) & 15)
        return np.concatenate(pieces)


class Hqq:
    """Reads HQQ (the ``Transform`` protocol)."""

    Options = NoOptions
    quant_methods: ClassVar[tuple[str, ...]] = ("hqq",)

    def apply(self, checkpoint: Checkpoint, options: NoOptions) -> Dequantized:
        """See every packed linear as its weight.

        Raises:
            ZooError: a width or an axis that is not read, or tensors that do not belong together.
        """
        config = quantization(checkpoint).get("quant_config")
        settings: Any = config.get("weight_quant_params", config) if isinstance(config, Mapping) else {}
        if not isinstance(settings, Mapping):
            raise ZooError(f"{checkpoint.name}: its quantization_config has no weight_quant_params")
        bits, axis = settings.get("nbits"), settings.get("axis")
        if bits not in (4, 8) or axis != 1:
            raise ZooError(
                f"{checkpoint.name}: HQQ of {str(bits)[:20]} bits along axis {str(axis)[:20]} is not read; "
                "4 and 8 along axis 1 are"
            )
        group = group_size(checkpoint.name, settings.get("group_size"))
        if checkpoint.download_bytes:
            raise ZooError(f"{checkpoint.name}: shapes of HQQ's weights lie among them; fetch it first")

        def find(stored: Stored) -> tuple[Mapping[str, Weight], Iterable[str]]:
            names = modules(stored, "W_q")
            weights: dict[str, Weight] = {
                f"{module}.weight": HqqWeight(stored, module, int(bits), group) for module in names
            }
            return weights, [f"{module}.{part}" for module in names for part in PARTS]

        return Dequantized(checkpoint, "hqq", find)
