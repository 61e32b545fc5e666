"""A LoRA adapter as PEFT saves it: ``adapter_config.json`` and ``adapter_model.safetensors``.

Source: PEFT 0.21, utils/save_and_load.py (names), tuners/lora/layer.py (``get_delta_weight``), utils/other.py
(``get_pattern_key``).
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zoo.contracts import Stamp, flat_shape
from zoo.declarations.dtypes import READABLE
from zoo.errors import ZooError
from zoo.sources.companions import MAX_CONFIG
from zoo.sources.jsonfile import read_object
from zoo.sources.otherkinds import ADAPTER
from zoo.sources.shards import Shards
from zoo.sources.weightfiles import header_of

WEIGHTS = "adapter_model.safetensors"
_PREFIX = "base_model.model."
_NEUTRAL = frozenset((
    "peft_type", "base_model_name_or_path", "revision", "task_type", "inference_mode", "r", "target_modules",
    "exclude_modules", "lora_alpha", "lora_dropout", "fan_in_fan_out", "bias", "use_rslora", "modules_to_save",
    "init_lora_weights", "layers_to_transform", "layers_pattern", "rank_pattern", "alpha_pattern", "loftq_config",
    "eva_config", "corda_config", "lora_ga_config", "runtime_config", "peft_version", "auto_mapping",
    "megatron_core", "qalora_group_size", "ensure_weight_tying",
))  # fmt: skip
"""Keys that change nothing of a merge, or that are followed; any other that is set is refused by its name."""
_STARTS = (True, False, None, "gaussian", "eva", "orthogonal")
"""Ways to begin training that leave the base as it is."""


@dataclass(frozen=True)
class Delta:
    """What is added to one weight: ``scaling * (up @ down)``, or its transpose."""

    down: str
    """The tensor of (rank, in_features), or (rank, vocab) of an embedding."""
    up: str
    """The tensor of (out_features, rank), or (hidden, rank) of an embedding."""
    scaling: float
    embedding: bool


class Adapter:
    """An opened adapter.

    Args:
        folder: where its files are.
        name: for messages.

    Raises:
        ZooError: it is not a LoRA that can be merged; the message says why.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self.name, self._path = name, folder / WEIGHTS
        self.config: dict[str, Any] = read_object(folder / ADAPTER, MAX_CONFIG, f"{name}/{ADAPTER}")
        if not self._path.is_file():
            raise ZooError(f"{name}: no {WEIGHTS} beside its {ADAPTER}; PEFT's save_pretrained writes one")
        self._check()
        header = header_of(self._path, WEIGHTS, WEIGHTS)
        self.tensors = header.tensors
        self._offsets = header.offsets
        self._shards = Shards({WEIGHTS: header.file_size}, {WEIGHTS: self._path})
        self._raw_config = (folder / ADAPTER).read_bytes()
        self.deltas, self.replaced = self._sort()

    @cached_property
    def digest(self) -> str:
        """SHA-256 over both files."""
        state = hashlib.sha256(self._raw_config)
        try:
            with self._path.open("rb") as file:
                while piece := file.read(2**20):
                    state.update(piece)
        except OSError as error:
            raise ZooError(f"{self.name}/{WEIGHTS}: {error.strerror or error}") from None
        return state.hexdigest()

    def stamps(self) -> dict[str, Stamp]:
        """Stamp the file of weights."""
        return self._shards.stamps()

    def close(self) -> None:
        """Close the file; reading opens it again."""
        self._shards.close()

    def read(self, tensor: str, start: int, stop: int) -> NDArray[np.float32]:
        """Read rows of a tensor in float32, (rows, columns).

        Raises:
            ZooError: it cannot be read, or holds NaN or infinite values.
        """
        info = self.tensors[tensor]
        dtype, columns = READABLE[info.dtype], flat_shape(info.shape)[1]
        raw = np.empty((stop - start, columns), dtype.numpy)
        if raw.size:
            at = self._offsets[tensor] + start * columns * dtype.nbytes
            self._shards.read_into(WEIGHTS, at, raw.reshape(-1).view(np.uint8).data)
        wide = (raw.astype(np.uint32) << 16).view(np.float32) if info.dtype == "BF16" else raw.astype(np.float32)
        if not np.isfinite(wide).all():
            raise ZooError(f"{self.name}: tensor {tensor!r} holds NaN or infinite values; the adapter is damaged")
        return wide

    def _check(self) -> None:
        config, kind = self.config, self.config.get("peft_type")
        if kind != "LORA":
            raise ZooError(f"{self.name}: an adapter of type {str(kind)[:40]!r} is not merged; LORA is")
        if config.get("use_dora"):
            raise ZooError(f"{self.name}: DoRA (use_dora) is not merged; PEFT's merge_and_unload does it")
        if config.get("bias", "none") != "none":
            raise ZooError(f"{self.name}: biases that were trained (bias {str(config['bias'])[:20]!r}) are not merged")
        if config.get("init_lora_weights", True) not in _STARTS:
            raise ZooError(
                f"{self.name}: init_lora_weights {str(config['init_lora_weights'])[:40]!r} changed the base; "
                "PEFT's merge_and_unload merges it"
            )
        for key, value in config.items():
            if value and key not in _NEUTRAL:
                raise ZooError(
                    f"{self.name}: {key[:60]!r} in its {ADAPTER} is not known to a merge here; PEFT merges it"
                )

    def _sort(self) -> tuple[dict[str, Delta], dict[str, str]]:
        """Sort the tensors: what is added to which weight, and which weights are replaced.

        Returns:
            Weight → delta, and weight → the adapter's tensor.
        """
        deltas: dict[str, Delta] = {}
        replaced: dict[str, str] = {}
        for tensor, info in self.tensors.items():
            if info.dtype not in READABLE:
                raise ZooError(f"{self.name}: tensor {tensor!r} is {info.dtype}; {', '.join(READABLE)} are read")
            module = tensor.removeprefix(_PREFIX)
            if match := re.fullmatch(r"(.+)\.lora_(embedding_)?([AB])(\.weight)?", module):
                if match[3] == "A":
                    deltas[f"{match[1]}.weight"] = self._delta(tensor, match[1], embedding=match[2] is not None)
                continue
            if "lora_" in module:
                raise ZooError(f"{self.name}: tensor {tensor!r} is of a kind of LoRA that is not merged")
            name = re.sub(r"\.(modules_to_save|base_layer)\.", ".", module)
            replaced[name] = tensor
        lone = [tensor for tensor in self.tensors if ".lora_" in tensor and tensor not in self._used(deltas)]
        if lone:
            raise ZooError(f"{self.name}: tensor {lone[0]!r} has no partner")
        if not deltas and not replaced:
            raise ZooError(f"{self.name}: its {WEIGHTS} is empty")
        return deltas, replaced

    @staticmethod
    def _used(deltas: Mapping[str, Delta]) -> set[str]:
        return {name for delta in deltas.values() for name in (delta.down, delta.up)}

    def _delta(self, down: str, module: str, *, embedding: bool) -> Delta:
        up = down.replace("lora_embedding_A", "lora_embedding_B") if embedding else down.replace("lora_A", "lora_B")
        if up not in self.tensors:
            raise ZooError(f"{self.name}: tensor {up!r} is missing")
        shapes = self.tensors[down].shape, self.tensors[up].shape
        rank = self._number("r", "rank_pattern", module, 8)
        if any(len(shape) != 2 for shape in shapes) or not shapes[0][0] == shapes[1][1] == rank:
            raise ZooError(
                f"{self.name}: {module}: {down.rsplit('.', 2)[-2]} is {list(shapes[0])} and its partner "
                f"{list(shapes[1])}, but the rank is {rank}"
            )
        alpha = self._number("lora_alpha", "alpha_pattern", module, 8)
        return Delta(down, up, alpha / (math.sqrt(rank) if self.config.get("use_rslora") else rank), embedding)

    def _number(self, key: str, pattern: str, module: str, default: float) -> float:
        """Read the rank or alpha of a module: what the first pattern that matches says, else what holds for all."""
        patterns = self.config.get(pattern) or {}
        if not isinstance(patterns, dict):
            raise ZooError(f"{self.name}: {pattern} in its {ADAPTER} is not an object")
        value = self.config.get(key, default)
        for stated, number in patterns.items():
            if _matches(self.name, stated, module):
                value = number
                break
        if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 < value < 2**20:
            raise ZooError(f"{self.name}: {key} of {module} is {str(value)[:40]}")
        return value


def _matches(name: str, pattern: str, module: str) -> bool:
    """Match a module as PEFT does. A pattern that could take forever is refused: groups that repeat, many repetitions.

    Source: PEFT, utils/other.py, ``get_pattern_key``.
    """
    if len(pattern) > 300 or re.search(r"\)[*+{?]", pattern) or len(re.findall(r"[*+{]", pattern)) > 3:
        raise ZooError(f"{name}: the pattern {pattern[:60]!r} in its {ADAPTER} is too involved")
    try:
        return re.match(rf"(.*\.)?({pattern})$", module) is not None
    except re.error as error:
        raise ZooError(f"{name}: the pattern {pattern[:60]!r} in its {ADAPTER}: {error}") from None
