"""A weight that is stored packed, as floats and, where it is integers in groups, as blocks; the checkpoint of them."""

from __future__ import annotations

import logging
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from zoo import BlockScheme, BlockTile, Checkpoint, TensorInfo, TransformedCheckpoint, TransformPin, ZooError
from zoo_quantized.stored import Stored

log = logging.getLogger("zoo")

BLOCKS = (128, 64, 32, 16)
FLOATS: dict[str, Literal["float32", "float16", "bfloat16"]] = {"F16": "float16", "BF16": "bfloat16", "F32": "float32"}


class NoOptions(BaseModel):
    """There is nothing to choose: the checkpoint says how it is stored."""

    model_config = ConfigDict(extra="forbid")


class Weight(ABC):
    """One weight of out_features by in_features, or several matrices of them."""

    shape: tuple[int, ...]
    scheme: BlockScheme | None = None
    """The blocks that its rows are stored in."""

    @abstractmethod
    def floats(self, start: int, stop: int) -> NDArray[np.float32]:
        """Compute the values of rows, (stop - start, columns)."""

    def blocks(self, start: int, stop: int) -> BlockTile:
        """Read rows as blocks of the scheme."""
        raise NotImplementedError


class Integers(NamedTuple):
    """Rows of integers: ``scale * (level - zero point)``."""

    levels: NDArray[np.uint8]
    """(rows, columns)."""
    scales: NDArray[np.float32]
    """(rows, groups)."""
    points: NDArray[np.uint8] | None
    """(rows, groups); None where all are the middle level."""


class Grouped(Weight):
    """A weight of integers whose columns share scales in groups.

    Args:
        name: for messages.
        group: columns of a group; -1 where a row is one.
    """

    shape: tuple[int, int]
    scale_type: Literal["float32", "float16", "bfloat16"] = "float32"
    """What holds the scales as they are."""

    def __init__(self, name: str, shape: tuple[int, int], bits: int, group: int, *, symmetric: bool) -> None:
        self.name, self.shape, self.bits, self.symmetric = name, shape, bits, symmetric
        self.group = shape[1] if group == -1 else group

    @property
    def groups(self) -> int:
        """Groups of a row."""
        return -(-self.shape[1] // self.group)

    @property
    def scheme(self) -> BlockScheme | None:  # type: ignore[override]
        """The blocks of the same levels, where a group is one or several of them and its columns follow each other."""
        if self.order() is not None:
            return None
        whole = self.group >= self.shape[1]
        sizes = [size for size in BLOCKS if (self.shape[1] if whole else self.group) % size == 0] or [32] * whole
        if not sizes:
            return None
        return BlockScheme(
            bits=self.bits,  # type: ignore[arg-type]
            block_size=sizes[0],
            symmetric=self.symmetric,
            scale_type=self.scale_type,
        )

    @abstractmethod
    def integers(self, start: int, stop: int) -> Integers:
        """Read rows as they are stored."""

    def order(self) -> NDArray[np.intp] | None:
        """The group of each column, where they do not follow each other."""
        return None

    def expect_scales(self, stored: Stored, part: str, shape: tuple[int, ...]) -> None:
        """Check the scales, and note their type.

        Raises:
            ZooError: they are missing, of another shape, or not floats.
        """
        name = f"{self.name}.{part}"
        stored.expect(name, shape, *FLOATS)
        self.scale_type = FLOATS[stored.info(name).dtype]

    def read_order(self, stored: Stored, part: str, *, sorted_groups: bool = False) -> NDArray[np.intp] | None:
        """Read the group of each column from a tensor that may be absent; None where they follow each other.

        Args:
            sorted_groups: whether they do, as far as the configuration says; taken for it until weights are here.

        Raises:
            ZooError: it names a group that there is not.
        """
        name, plain = f"{self.name}.{part}", np.arange(self.shape[1]) // self.group
        if name not in stored.base.tensors:
            return None
        if stored.base.download_bytes:
            return None if sorted_groups else plain[::-1]
        order = stored.whole(name).astype(np.intp)
        if (order == -1).all():  # not set
            return None
        if order.min(initial=0) < 0 or order.max(initial=0) >= self.groups:
            raise ZooError(
                f"{name!r} names groups {order.min()} to {order.max()}, but there are {self.groups}; it is damaged"
            )
        return None if np.array_equal(order, plain) else order

    def floats(self, start: int, stop: int) -> NDArray[np.float32]:
        """Compute ``scale * (level - zero point)`` in float32."""
        levels, scales, points = self.integers(start, stop)
        values = levels.astype(np.float32)
        order = self.order()
        if order is None and self.shape[1] % self.group == 0:
            view = values.reshape(len(values), self.groups, -1)
            view -= np.float32(2 ** (self.bits - 1)) if points is None else points.astype(np.float32)[..., None]
            view *= scales[..., None]
            return values
        columns = np.arange(self.shape[1]) // self.group if order is None else order
        values -= np.float32(2 ** (self.bits - 1)) if points is None else points.astype(np.float32)[:, columns]
        values *= scales[:, columns]
        return values

    def blocks(self, start: int, stop: int) -> BlockTile:
        """Cut rows into blocks; a group's scale counts for each block in it."""
        scheme = self.scheme
        assert scheme is not None
        levels, scales, points = self.integers(start, stop)
        middle, count = 2 ** (self.bits - 1), scheme.blocks(self.shape[1])
        if scheme.symmetric and points is not None and (points != middle).any():
            raise ZooError(
                f"{self.name}: its zero points are not all {middle}, though the configuration calls it symmetric; "
                "--quantizer-option symmetric=false rounds it anew"
            )
        of = np.minimum(np.arange(count) * scheme.block_size // self.group, self.groups - 1)
        spread = (
            None if scheme.symmetric else points[:, of] if points is not None else np.full_like(scales, middle)[:, of]
        )
        missing = count * scheme.block_size - self.shape[1]
        if missing:
            filler = np.full((len(levels), missing), middle, np.uint8)
            if spread is not None:
                filler[...] = spread[:, -1:]
            levels = np.concatenate([levels, filler], axis=1)
        tile = levels.reshape(len(levels), count, scheme.block_size)
        return BlockTile(start, stop, tile, scales[:, of], None if spread is None else spread.astype(np.uint8))


class Dequantized(TransformedCheckpoint):
    """A checkpoint whose packed tensors are seen as the weights that they stand for, in float32.

    Args:
        kind: the transform's registered name.
        find: makes the weights, by name, and the tensors that are not seen.
    """

    def __init__(
        self, base: Checkpoint, kind: str, find: Callable[[Stored], tuple[Mapping[str, Weight], Iterable[str]]]
    ) -> None:
        super().__init__(base, TransformPin(kind=kind))
        self._stored = Stored(base)
        self._weights, hidden = find(self._stored)
        self._hidden = frozenset(hidden)
        if not self._weights:
            if not all(info.dtype in FLOATS for info in base.tensors.values()):
                raise ZooError(f"{base.name}: its quantization_config says {kind}, but no tensor of it is stored so")
            log.warning(
                "%s: config.json states quantization_config (%s), but all weights are floats: read as they are",
                base.name,
                kind,
            )

    @property
    def config(self) -> Mapping[str, Any]:
        """The configuration of weights that are floats."""
        return {name: value for name, value in self.base.config.items() if name != "quantization_config"}

    @property
    def tensors(self) -> Mapping[str, TensorInfo]:
        """The weights, and the tensors that were never packed."""
        below = self.base.tensors
        seen = {name: info for name, info in below.items() if name not in self._hidden and name not in self._weights}
        file = next((info.file for info in below.values()), "")
        for name, weight in self._weights.items():
            at = below[name].file if name in below else file
            seen[name] = TensorInfo(name, "F32", weight.shape, math.prod(weight.shape) * 4, at)
        return seen

    def read(self, name: str, start: int, stop: int, out: NDArray[np.uint8] | None = None) -> NDArray[Any]:
        """Read rows; those of a packed weight are computed."""
        weight = self._weights.get(name)
        if weight is None:
            return super().read(name, start, stop, out)
        values = weight.floats(start, stop)
        if out is None:
            return values
        view = out[: values.nbytes].view(np.float32).reshape(values.shape)
        view[...] = values
        return view

    def block_scheme(self, name: str) -> BlockScheme | None:
        """Say in which blocks a weight is stored."""
        return self._weights[name].scheme if name in self._weights else None

    def stored_type(self, name: str) -> str | None:
        """Name the method that a weight is quantized by."""
        return self.pin.kind if name in self._weights else super().stored_type(name)

    def read_blocks(self, name: str, start: int, stop: int) -> BlockTile:
        """Read rows of a weight as blocks."""
        return self._weights[name].blocks(start, stop)

    def bring(self, progress: Callable[[Any], None] | None = None) -> Checkpoint:
        """Bring what is below."""
        super().bring(progress)
        self._stored.base = self.base
        return self


def modules(stored: Stored, suffix: str) -> list[str]:
    """Name the modules that have a tensor of this name, sorted."""
    return sorted(name.removesuffix(f".{suffix}") for name in stored.base.tensors if name.endswith(f".{suffix}"))


def setting(config: Mapping[str, Any], name: str, kind: type, default: Any = None) -> Any:
    """Read a value of ``quantization_config``.

    Raises:
        ZooError: it is of another type.
    """
    value = config.get(name, default)
    if value is not None and (not isinstance(value, kind) or (kind is int and isinstance(value, bool))):
        raise ZooError(f"quantization_config states {name} as {str(value)[:100]!r}, not {kind.__name__}")
    return value


def group_size(where: str, stated: Any) -> int:
    """Check the columns of a group; -1 means a whole row, and so does None.

    Raises:
        ZooError: it is not a number of columns.
    """
    if stated is None:
        return -1
    if type(stated) is not int or (stated != -1 and stated < 1):
        raise ZooError(f"{where}: quantization_config states group_size {str(stated)[:40]}")
    return stated


def quantization(checkpoint: Checkpoint) -> Mapping[str, Any]:
    """Read ``quantization_config``.

    Raises:
        ZooError: there is none.
    """
    stated = checkpoint.config.get("quantization_config")
    if not isinstance(stated, Mapping):
        raise ZooError(f"{checkpoint.name}: its config.json has no quantization_config")
    return stated
