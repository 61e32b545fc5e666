"""bitsandbytes: INT8 by rows, and 4 bits by a table of 16 values in blocks of the flattened weight.

- INT8: ``weight`` int8 (out, in), ``SCB`` float32 (out,), the largest magnitude of each row: value · SCB / 127.
- 4 bits: ``weight`` uint8 (n / 2, 1), the even value in the high half; ``weight.quant_map`` (16,), the values;
  ``weight.absmax``, the factor of each block, float32, or (nested) uint8 indices into ``weight.nested_quant_map`` times
  ``nested_absmax`` of their blocks, plus ``nested_offset``; sizes stand as JSON in
  ``weight.quant_state.bitsandbytes__nf4``.

Source: bitsandbytes 0.50, functional.py (``QuantState.as_dict``, ``dequantize_4bit``) and nn/modules.py.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from zoo import Checkpoint, ZooError
from zoo_quantized.stored import Stored
from zoo_quantized.weights import Dequantized, Grouped, Integers, NoOptions, Weight, modules, quantization

STATES = tuple(f"quant_state.bitsandbytes__{kind}" for kind in ("nf4", "fp4"))
NESTED = ("absmax", "quant_map", "nested_absmax", "nested_quant_map", *STATES)


class Int8Weight(Grouped):
    """One linear of bytes with a scale for each row: blocks of 8 bits as they are."""

    def __init__(self, stored: Stored, module: str) -> None:
        rows, columns = stored.matrix(f"{module}.weight")
        stored.expect(f"{module}.weight", (rows, columns), "I8")
        super().__init__(module, (rows, columns), 8, columns, symmetric=True)
        stored.expect(f"{module}.SCB", (rows,), "F32")
        self._stored = stored

    def integers(self, start: int, stop: int) -> Integers:
        """Raise the signed levels by 128."""
        signed, name = self._stored.rows(f"{self.name}.weight", start, stop), f"{self.name}.SCB"
        scales = self._stored.floats(name, self._stored.rows(name, start, stop)) / np.float32(127)
        return Integers(signed.view(np.uint8) ^ np.uint8(128), scales[:, None], None)


class TableWeight(Weight):
    """One linear of 4 bits a value, looked up in a table."""

    def __init__(self, stored: Stored, module: str) -> None:
        name = f"{module}.weight"
        state = next(
            (f"{name}.{one}" for one in STATES if f"{name}.{one}" in stored.base.tensors), f"{name}.{STATES[0]}"
        )
        self._stored, self._name, self._state = stored, name, self._read_state(stored, state)
        shape, block = self._state.get("shape"), self._state.get("blocksize")
        if (
            not (
                isinstance(shape, list) and len(shape) == 2 and all(isinstance(n, int) and 0 < n < 2**31 for n in shape)
            )
            or not isinstance(block, int)
            or block < 1
            or stored.info(name).dtype != "U8"
            or stored.info(name).nbytes != -(-shape[0] * shape[1] // 2)
        ):
            raise ZooError(
                f"tensor {state!r} says shape {str(shape)[:60]}, block {str(block)[:20]}; {name!r} is not that"
            )
        if shape[1] % 2:
            raise ZooError(f"{module}: rows of {shape[1]} values, an odd number, are not read")
        self.shape, self._block = (shape[0], shape[1]), block
        stored.expect(f"{name}.quant_map", (16,), "F32")
        blocks = -(-shape[0] * shape[1] // block)
        stored.expect(f"{name}.absmax", (blocks,), "U8" if self._nested else "F32")
        if self._nested:
            size = self._state.get("nested_blocksize")
            if not isinstance(size, int) or size < 1:
                raise ZooError(f"tensor {state!r} says nested_blocksize {str(size)[:20]}")
            stored.expect(f"{name}.nested_absmax", (-(-blocks // size),), "F32")
            stored.expect(f"{name}.nested_quant_map", (256,), "F32")

    @property
    def _nested(self) -> bool:
        return f"{self._name}.nested_absmax" in self._stored.base.tensors

    @staticmethod
    def _read_state(stored: Stored, name: str) -> Mapping[str, Any]:
        if stored.info(name).nbytes > 4096:
            raise ZooError(f"tensor {name!r} is too long for a description")
        try:
            state = json.loads(stored.whole(name).tobytes())
        except ValueError as error:
            raise ZooError(f"tensor {name!r} is not JSON: {error}") from None
        if not isinstance(state, dict):
            raise ZooError(f"tensor {name!r} is not a JSON object")
        return state

    def floats(self, start: int, stop: int) -> NDArray[np.float32]:
        """Look values up and multiply them by the factors of their blocks."""
        stored, columns = self._stored, self.shape[1]
        first, last = start * columns, stop * columns
        raw = stored.rows(self._name, first // 2, last // 2).reshape(-1)
        codes = np.empty(last - first, np.uint8)
        codes[0::2], codes[1::2] = raw >> 4, raw & 15
        values = stored.floats(f"{self._name}.quant_map", stored.whole(f"{self._name}.quant_map"))[codes]
        values *= self._factors(first // self._block, -(-last // self._block))[
            np.arange(first, last) // self._block - first // self._block
        ]
        return values.reshape(stop - start, columns)

    def _factors(self, first: int, last: int) -> NDArray[np.float32]:
        """The factors of blocks."""
        stored, name = self._stored, f"{self._name}.absmax"
        held = stored.rows(name, first, last)
        if not self._nested:
            return stored.floats(name, held)
        table, outer = (
            stored.floats(part, stored.whole(part))
            for part in (f"{self._name}.nested_quant_map", f"{self._name}.nested_absmax")
        )
        offset = self._state.get("nested_offset", 0.0)
        if not isinstance(offset, (int, float)) or not np.isfinite(offset):
            raise ZooError(f"{self._name}: nested_offset is {str(offset)[:20]}")
        return table[held] * outer[np.arange(first, last) // self._state["nested_blocksize"]] + np.float32(offset)


class BitsAndBytes:
    """Reads bitsandbytes (the ``Transform`` protocol)."""

    Options = NoOptions
    quant_methods: ClassVar[tuple[str, ...]] = ("bitsandbytes",)

    def apply(self, checkpoint: Checkpoint, options: NoOptions) -> Dequantized:
        """See every packed linear as its weight.

        Raises:
            ZooError: tensors that do not belong together.
        """
        quantization(checkpoint)
        if checkpoint.download_bytes and any(name.endswith(STATES) for name in checkpoint.tensors):
            raise ZooError(f"{checkpoint.name}: shapes of 4-bit weights lie among them; fetch it first")

        def find(stored: Stored) -> tuple[Mapping[str, Weight], Iterable[str]]:
            weights: dict[str, Weight] = {f"{one}.weight": Int8Weight(stored, one) for one in modules(stored, "SCB")}
            weights |= {f"{one}.weight": TableWeight(stored, one) for one in modules(stored, "weight.quant_map")}
            parts = (".SCB", ".weight_format", *(f".weight.{part}" for part in NESTED))
            return weights, [name for name in stored.base.tensors if name.endswith(parts)]

        return Dequantized(checkpoint, "bitsandbytes", find)
