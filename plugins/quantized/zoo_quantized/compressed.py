"""compressed-tensors: integers packed in words (pack-quantized) or one a byte, and 8-bit floats, each with scales.

- ``weight_packed`` int32 (out, in · bits / 32); ``weight_zero_point`` packed along the outputs.
- ``weight`` int8 (int-quantized, naive-quantized) or float8_e4m3fn (float-quantized, naive-quantized).
- ``weight_scale``: of the tensor (1,), a channel (out, 1), a group (out, groups) or a block.

Source: compressed-tensors 0.20, compressors/pack_quantized and naive_quantized, quantization/lifecycle/forward.py.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from zoo import Checkpoint, ZooError
from zoo_quantized.fp8 import Fp8Weight
from zoo_quantized.stored import Stored, unpacked
from zoo_quantized.weights import Dequantized, Grouped, Integers, NoOptions, Weight, modules, quantization

FORMATS = ("pack-quantized", "int-quantized", "float-quantized", "naive-quantized", "dense")
PARTS = (
    "weight_packed", "weight_scale", "weight_zero_point", "weight_shape", "weight_g_idx", "input_scale",
    "input_zero_point", "output_scale", "output_zero_point", "k_scale", "v_scale", "k_zero_point", "v_zero_point",
)  # fmt: skip


class IntegerWeight(Grouped):
    """One linear of integers, packed in words or one a byte.

    Args:
        bits: of a level.
        symmetric: it has no zero points.
    """

    def __init__(self, stored: Stored, module: str, bits: int, *, symmetric: bool) -> None:
        self._stored, self._packed = stored, f"{module}.weight_packed" in stored.base.tensors
        name = f"{module}.{'weight_packed' if self._packed else 'weight'}"
        held = stored.matrix(name)
        stored.expect(name, held, "I32" if self._packed else "I8")
        scales = stored.info(f"{module}.weight_scale").shape
        if len(scales) != 2 and scales != (1,):
            raise ZooError(f"{module}: weights of shape {list(held)} with scales of shape {list(scales)} are not read")
        rows, columns = held[0], held[1] * 32 // bits if self._packed else held[1]
        self._rows_of_scales = scales[0] if len(scales) == 2 else 1
        groups = scales[1] if len(scales) == 2 else 1
        if self._rows_of_scales not in (1, rows) or groups < 1 or columns % groups:
            raise ZooError(
                f"{module}: scales of shape {list(scales)} do not divide a weight of {rows} x {columns} into groups"
            )
        super().__init__(module, (rows, columns), bits, columns // groups, symmetric=symmetric)
        self.expect_scales(stored, "weight_scale", scales)
        if not symmetric:
            shape = (-(-rows * bits // 32), groups) if self._packed else scales
            stored.expect(f"{module}.weight_zero_point", shape, "I32" if self._packed else "I8")
        if f"{module}.weight_g_idx" in stored.base.tensors:
            stored.expect(f"{module}.weight_g_idx", (columns,), "I32")

    def order(self) -> NDArray[np.intp] | None:
        """The group of each column, where they were reordered."""
        return self.read_order(self._stored, "weight_g_idx")

    def integers(self, start: int, stop: int) -> Integers:
        """Read rows of levels; signed ones are raised by half of their range."""
        stored, rows = self._stored, slice(start, stop)
        if self._packed:
            self._check_shape()
            levels = unpacked(stored.rows(f"{self.name}.weight_packed", start, stop), self.bits)
        else:
            levels = self._raised(f"{self.name}.weight", stored.rows(f"{self.name}.weight", start, stop))
        name = f"{self.name}.weight_scale"
        scales = stored.floats(name, stored.whole(name)).reshape(self._rows_of_scales, -1)
        scales = np.broadcast_to(scales, (self.shape[0], self.groups))[rows]
        if self.symmetric:
            return Integers(levels, scales, None)
        name = f"{self.name}.weight_zero_point"
        held = stored.whole(name)
        if self._packed:
            first = start * self.bits // 32
            points = unpacked(held.T[:, first : -(-stop * self.bits // 32)], self.bits).T
            points = points[start - first * 32 // self.bits :][: stop - start]
        else:
            wide = np.broadcast_to(held.reshape(self._rows_of_scales, -1), (self.shape[0], self.groups))
            points = self._raised(name, wide[rows])
        return Integers(levels, scales, points)

    def _raised(self, name: str, signed: NDArray[Any]) -> NDArray[np.uint8]:
        middle = 2 ** (self.bits - 1)
        if self.bits < 8 and (signed.min(initial=0) < -middle or signed.max(initial=0) >= middle):
            raise ZooError(
                f"tensor {name!r} holds {signed.min()} to {signed.max()}, past {self.bits} bits; it is damaged"
            )
        return (signed.astype(np.int16) + middle).astype(np.uint8)

    def _check_shape(self) -> None:
        name = f"{self.name}.weight_shape"
        if name not in self._stored.base.tensors:
            return
        self._stored.expect(name, (2,), "I64", "I32")
        stated = self._stored.whole(name).tolist()
        if stated != list(self.shape):
            raise ZooError(f"tensor {name!r} says {stated}, but {list(self.shape)} are packed")


class CompressedTensors:
    """Reads compressed-tensors (the ``Transform`` protocol)."""

    Options = NoOptions
    quant_methods: ClassVar[tuple[str, ...]] = ("compressed-tensors",)

    def apply(self, checkpoint: Checkpoint, options: NoOptions) -> Dequantized:
        """See every compressed weight as floats.

        Raises:
            ZooError: a format that is not read, or tensors that do not belong together.
        """
        config = quantization(checkpoint)
        groups = config.get("config_groups")
        if not isinstance(groups, Mapping) or not all(isinstance(group, Mapping) for group in groups.values()):
            raise ZooError(f"{checkpoint.name}: its quantization_config has no config_groups")
        for form in (config.get("format", "dense"), *(group.get("format") for group in groups.values())):
            if form not in (*FORMATS, None, "mixed-precision"):
                raise ZooError(
                    f"{checkpoint.name}: the format {str(form)[:40]!r} is not read; {', '.join(FORMATS[:4])} are"
                )
        if config.get("transform_config"):
            raise ZooError(f"{checkpoint.name}: compressed-tensors with transforms (rotations) is not read")
        sparsity = config.get("sparsity_config")
        if isinstance(sparsity, Mapping) and sparsity.get("format", "dense") != "dense":
            raise ZooError(f"{checkpoint.name}: sparse compressed-tensors are not read")

        def find(stored: Stored) -> tuple[Mapping[str, Weight], Iterable[str]]:
            weights: dict[str, Weight] = {}
            names = modules(stored, "weight_scale")
            names += [name for name in modules(stored, "weight_packed") if name not in names]
            for module in names:
                weights[f"{module}.weight"] = _weight(stored, module, _arguments(checkpoint, groups, module))
            return weights, [name for name in stored.base.tensors if name.endswith(tuple(f".{part}" for part in PARTS))]

        return Dequantized(checkpoint, "compressed-tensors", find)


def _arguments(checkpoint: Checkpoint, groups: Mapping[str, Any], module: str) -> Mapping[str, Any]:
    """Find how a module's weight is stored: the group that names it, before one that names its class."""
    stated = [group for group in groups.values() if isinstance(group.get("weights"), Mapping)]
    for group in stated:
        for target in _targets(group):
            if target == module or (target.startswith("re:") and _matches(target[3:], module)):
                return group["weights"]
    for group in stated:
        if any(target in ("Linear", "Embedding") for target in _targets(group)):
            return group["weights"]
    raise ZooError(f"{checkpoint.name}: no group of its quantization_config names {module!r}, which has scales")


def _targets(group: Mapping[str, Any]) -> list[str]:
    targets = group.get("targets")
    return [target for target in targets if isinstance(target, str)] if isinstance(targets, list) else []


def _matches(pattern: str, module: str) -> bool:
    # Neither groups that repeat nor many repetitions: such a pattern could take forever.
    if len(pattern) > 500 or re.search(r"\)[*+{?]", pattern) or len(re.findall(r"[*+{]", pattern)) > 3:
        raise ZooError(f"quantization_config has a pattern that is too involved: {pattern[:80]!r}")
    try:
        return re.match(pattern, module) is not None
    except re.error as error:
        raise ZooError(f"quantization_config has the pattern {pattern[:80]!r}: {error}") from None


def _is_block(block: Any) -> bool:
    return isinstance(block, list) and len(block) == 2 and all(isinstance(size, int) and size > 0 for size in block)


def _weight(stored: Stored, module: str, arguments: Mapping[str, Any]) -> Weight:
    bits, kind = arguments.get("num_bits"), arguments.get("type", "int")
    if kind == "int":
        if bits not in (4, 8):
            raise ZooError(f"{module}: integers of {str(bits)[:20]} bits are not read; 4 and 8 are")
        return IntegerWeight(stored, module, bits, symmetric=bool(arguments.get("symmetric", True)))
    if kind != "float" or bits != 8:
        raise ZooError(f"{module}: {str(kind)[:40]} of {str(bits)[:20]} bits is not read; 8 are")
    rows, columns = stored.matrix(f"{module}.weight")
    shape, block = stored.info(f"{module}.weight_scale").shape, arguments.get("block_structure")
    if arguments.get("strategy") == "block" and _is_block(block):
        size = (block[0], block[1])
    elif len(shape) == 2 and shape[0] == rows and shape[1] and columns % shape[1] == 0:
        size = (1, columns // shape[1])
    else:
        size = (rows, columns)
    return Fp8Weight(stored, f"{module}.weight", f"{module}.weight_scale", size)
