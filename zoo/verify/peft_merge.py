"""Weights with an adapter merged by PEFT itself, a module at a time: what a merge of ours is held against."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

from zoo.contracts import Checkpoint, CheckpointOver, flat_shape
from zoo.errors import ZooError
from zoo.sources.merged import MergedCheckpoint
from zoo.sources.named import beneath, seen_over

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def merged_by_peft(checkpoint: Checkpoint) -> Checkpoint:
    """See a checkpoint with every adapter in it merged by PEFT in place of ours."""
    merged = beneath(checkpoint)
    if not isinstance(merged, MergedCheckpoint):
        return checkpoint
    below = merged_by_peft(merged.base)
    return seen_over(checkpoint, PeftMerged(merged, below))


class PeftMerged(CheckpointOver):
    """A checkpoint whose weights PEFT merges.

    Args:
        ours: says which weights an adapter changes, and how they are called.
        below: the weights that it is merged into.

    Raises:
        ZooError: PEFT is not installed, or refuses the adapter.
    """

    def __init__(self, ours: MergedCheckpoint, below: Checkpoint) -> None:
        super().__init__(ours)
        self._ours, self._below = ours, below
        self._last: tuple[str, Any] = ("", None)

    @cached_property
    def _model(self) -> Any:
        """Make the model on the meta device, with PEFT's layers where PEFT puts them."""
        try:
            import torch
            from peft import LoraConfig, inject_adapter_in_model
            from transformers import CONFIG_MAPPING, AutoModelForCausalLM
        except ImportError as error:
            raise ZooError(
                f"an adapter is held against PEFT, and {error.name} is not installed; pip install peft"
            ) from None
        adapter, stated = self._ours.adapter, self._ours.config
        maker: Any = AutoModelForCausalLM
        known = {name: value for name, value in adapter.config.items() if name in LoraConfig.__dataclass_fields__}
        known |= {"inference_mode": True, "init_lora_weights": True, "task_type": None, "peft_type": "LORA"}
        try:
            with torch.device("meta"):
                model = maker.from_config(CONFIG_MAPPING[str(stated.get("model_type"))].from_dict(dict(stated)))
                return inject_adapter_in_model(LoraConfig(**known), model, low_cpu_mem_usage=True)
        except Exception as error:  # whatever PEFT makes of the file
            line = " ".join(str(error).split())[:300]
            raise ZooError(f"{adapter.name}: PEFT refuses it: {line}") from None

    def read(self, name: str, start: int, stop: int, out: NDArray[np.uint8] | None = None) -> NDArray[Any]:
        """Read rows of a weight; one that the adapter changes is merged whole, and kept until the next."""
        import numpy as np

        if name not in self._ours.adapter.deltas:
            if name in self._ours.adapter.replaced:
                return super().read(name, start, stop, out)
            return self._below.read(name, start, stop, out)
        if self._last[0] != name:
            self._last = (name, self._merge(name))
        values: NDArray[Any] = self._last[1][start:stop]
        if out is None:
            return values
        view = out[: values.nbytes].view(np.float32).reshape(values.shape)
        view[...] = values
        return view

    def _merge(self, name: str) -> NDArray[np.float32]:
        """Have PEFT merge one module in float32."""
        import torch

        ours, adapter = self._ours, self._ours.adapter
        delta, rows = adapter.deltas[name], flat_shape(ours.tensors[name].shape)[0]
        try:
            layer = self._model.get_submodule(name.removesuffix(".weight"))
        except AttributeError:
            layer = None
        base = getattr(layer, "base_layer", None)
        if layer is None or base is None:
            raise ZooError(f"{adapter.name}: PEFT puts no adapter on {name!r}, but its tensors are there")

        def held(values: NDArray[np.float32]) -> Any:
            return torch.nn.Parameter(torch.from_numpy(values.copy()), requires_grad=False)

        below = self._below if name not in adapter.replaced else ours
        weight = _float32(below, name, rows) if below is not ours else adapter.read(adapter.replaced[name], 0, rows)
        down, up = (adapter.read(part, 0, adapter.tensors[part].shape[0]) for part in (delta.down, delta.up))
        (active,) = layer.active_adapters
        base.weight = held(weight)
        if delta.embedding:
            layer.lora_embedding_A[active], layer.lora_embedding_B[active] = held(down), held(up)
        else:
            layer.lora_A[active].weight, layer.lora_B[active].weight = held(down), held(up)
        layer.set_scale(active, ours.scale)
        with torch.inference_mode():
            layer.merge()
        merged: NDArray[np.float32] = base.weight.detach().numpy()
        layer.merged_adapters = []
        return merged


def _float32(checkpoint: Checkpoint, name: str, rows: int) -> NDArray[np.float32]:
    import numpy as np

    from zoo.quantizers.slab import RawSlab, Scratch

    info = checkpoint.tensors[name]
    if isinstance(checkpoint, PeftMerged):
        return np.array(checkpoint.read(name, 0, rows), np.float32)
    raw = checkpoint.read(name, 0, rows).reshape(rows, -1)
    return RawSlab(raw, info.dtype, name, Scratch()).float32(0, rows).copy()
