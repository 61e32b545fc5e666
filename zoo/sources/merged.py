"""A checkpoint with a LoRA adapter merged into it, slab by slab as its weights are read."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zoo.contracts import BlockTile, Checkpoint, Stamp, TensorInfo, TransformedCheckpoint, block_scheme, flat_shape
from zoo.declarations.dtypes import READABLE
from zoo.declarations.recipe import ADAPTER, TransformPin
from zoo.declarations.scheme import BlockScheme
from zoo.errors import ZooError
from zoo.quantizers.slab import RawSlab, Scratch
from zoo.sources.adapter import WEIGHTS, Adapter

_KEPT = 32 * 2**20
"""Bytes of an adapter's matrices that stay in memory; the least is one."""


class MergedCheckpoint(TransformedCheckpoint):
    """A checkpoint whose weights are ``base + scale * scaling * (up @ down)`` in float32, where it changes them.

    Args:
        scale: how much of the adapter is added; 1 is all of it, as PEFT's ``merge_and_unload`` does.
        stated: what the recipe says of the adapter's place: ``hub`` and ``revision``, or nothing.

    Raises:
        ZooError: a tensor of the adapter fits no weight.
    """

    def __init__(self, base: Checkpoint, adapter: Adapter, scale: float, stated: Mapping[str, Any]) -> None:
        pin = TransformPin(kind=ADAPTER, digest=adapter.digest, options={**stated, "scale": scale})
        super().__init__(base, pin)
        self.adapter, self.scale = adapter, scale
        self._kept: OrderedDict[str, NDArray[np.float32]] = OrderedDict()
        self._lock = threading.Lock()
        self._transposed = {name: self._fits(name) for name in adapter.deltas}
        for name in adapter.replaced:
            if self._info(name).shape != adapter.tensors[adapter.replaced[name]].shape:
                raise ZooError(
                    f"{adapter.name}: tensor {adapter.replaced[name]!r} is "
                    f"{list(adapter.tensors[adapter.replaced[name]].shape)}, but {name!r} of {base.name} is "
                    f"{list(self._info(name).shape)}"
                )

    def _info(self, name: str) -> TensorInfo:
        info = self.base.tensors.get(name)
        if info is None:
            raise ZooError(f"{self.adapter.name}: it changes {name!r}, which {self.base.name} does not have")
        return info

    def _fits(self, name: str) -> bool:
        """Check the shapes of what is added; tell whether the weight lies transposed, (in, out)."""
        delta, info = self.adapter.deltas[name], self._info(name)
        inputs, outputs = self.adapter.tensors[delta.down].shape[1], self.adapter.tensors[delta.up].shape[0]
        straight, turned = (outputs, inputs), (inputs, outputs)
        if delta.embedding:
            straight, turned = turned, straight
        if info.shape == straight and not (straight == turned and self.adapter.config.get("fan_in_fan_out")):
            return delta.embedding
        if info.shape == turned and not delta.embedding and self.adapter.config.get("fan_in_fan_out"):
            return True
        raise ZooError(
            f"{self.adapter.name}: what it adds to {name!r} is {list(straight)}, but that is {list(info.shape)}"
        )

    @cached_property
    def tensors(self) -> Mapping[str, TensorInfo]:
        """The tensors; those that are changed come in float32."""
        changed = self.adapter.deltas.keys() | self.adapter.replaced.keys()
        return {
            name: replace(info, dtype="F32", nbytes=int(np.prod(info.shape)) * 4) if name in changed else info
            for name, info in self.base.tensors.items()
        }

    def block_scheme(self, name: str) -> BlockScheme | None:
        """Say how a tensor is stored that the adapter leaves as it is."""
        changed = name in self.adapter.deltas or name in self.adapter.replaced
        return None if changed else block_scheme(self.base, name)

    def read_blocks(self, name: str, start: int, stop: int) -> BlockTile:
        """Read blocks of the checkpoint below."""
        return super().read_blocks(name, start, stop)

    def read(self, name: str, start: int, stop: int, out: NDArray[np.uint8] | None = None) -> NDArray[Any]:
        """Read rows, with what the adapter adds to them."""
        delta, source = self.adapter.deltas.get(name), self.adapter.replaced.get(name)
        if delta is None and source is None:
            return super().read(name, start, stop, out)
        values = self._base_rows(name, start, stop) if source is None else self.adapter.read(source, start, stop)
        if delta is not None:
            factor = np.float32(delta.scaling * self.scale)
            down, up = self._whole(delta.down), self._whole(delta.up)
            if self._transposed[name]:
                values += (down[:, start:stop].T @ up.T) * factor
            else:
                values += (up[start:stop] @ down) * factor
        if len(self.base.tensors[name].shape) < 2:
            values = values.reshape(-1)
        if out is None:
            return values
        view = out[: values.nbytes].view(np.float32).reshape(values.shape)
        view[...] = values
        return view

    def _base_rows(self, name: str, start: int, stop: int) -> NDArray[np.float32]:
        info = self.base.tensors[name]
        if info.dtype not in READABLE:
            raise ZooError(f"{self.base.name}: tensor {name!r} is {info.dtype}, which no adapter is merged into")
        raw = self.base.read(name, start, stop).reshape(stop - start, flat_shape(info.shape)[1])
        slab = RawSlab(raw, info.dtype, name, Scratch())
        return slab.float32(0, slab.rows).copy()

    def _whole(self, tensor: str) -> NDArray[np.float32]:
        """Read one of an adapter's matrices, or take it from those that are kept."""
        with self._lock:
            if tensor not in self._kept:
                self._kept[tensor] = self.adapter.read(tensor, 0, self.adapter.tensors[tensor].shape[0])
                while sum(array.nbytes for array in self._kept.values()) > _KEPT and len(self._kept) > 2:
                    self._kept.popitem(last=False)
            self._kept.move_to_end(tensor)
            return self._kept[tensor]

    def stamps(self) -> dict[str, Stamp]:
        """Stamp the files of weights, the adapter's among them."""
        (stamp,) = self.adapter.stamps().values()
        return {**self.base.stamps(), f"{WEIGHTS}:{len(self.base.transforms)}": stamp}

    def close(self) -> None:
        """Close the files of weights."""
        self.adapter.close()
        super().close()
