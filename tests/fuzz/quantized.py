"""Quantized checkpoints and adapters for the fuzzers: a configuration, and tensors that their headers state truly."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from zoo.contracts import block_scheme, flat_shape
from zoo.declarations.dtypes import BY_CODE
from zoo.errors import ZooError

OUT = "model.layers.0.self_attn.o_proj"
LINEAR = {"num_bits": 4, "type": "int", "symmetric": False, "strategy": "group", "group_size": 32}
FLOAT = {"num_bits": 8, "type": "float", "symmetric": True, "strategy": "block", "block_structure": [16, 32]}
STATE = json.dumps({"quant_type": "nf4", "blocksize": 64, "shape": [8, 64], "nested_blocksize": 4, "nested_offset": 0})
SAMPLES: dict[str, tuple[tuple[dict[str, Any], dict[str, tuple[str, list[int], Any]]], ...]] = {
    "gptq": (
        (
            {"bits": 4, "group_size": 32, "sym": False, "desc_act": True, "checkpoint_format": "gptq"},
            {"qweight": ("I32", [8, 16], [305419896, -2]), "qzeros": ("I32", [2, 2], [1]),
             "scales": ("F16", [2, 16], [0.01]), "g_idx": ("I32", [64], [0, 1])},
        ),
    ),
    "awq": (
        (
            {"bits": 4, "group_size": 32, "version": "gemm"},
            {"qweight": ("I32", [64, 2], [7]), "qzeros": ("I32", [2, 2], [1]), "scales": ("F16", [2, 16], [0.01])},
        ),
    ),
    "compressed-tensors": (
        (
            {"format": "pack-quantized", "config_groups": {"g": {"targets": ["Linear"], "weights": LINEAR}}},
            {"weight_packed": ("I32", [16, 8], [7]), "weight_scale": ("F32", [16, 2], [0.01, 0.02]), "weight_shape":
             ("I64", [2], [16, 64]), "weight_zero_point": ("I32", [2, 2], [1]), "weight_g_idx": ("I32", [64], [0, 1])},
        ),
        (
            {"format": "float-quantized", "config_groups": {"g": {"targets": [f"re:.*{OUT}"], "weights": FLOAT}}},
            {"weight": ("F8_E4M3", [32, 64], [7]), "weight_scale": ("BF16", [2, 2], [16256])},
        ),
    ),
    "fp8": (
        (
            {"fmt": "e4m3", "weight_block_size": [16, 32]},
            {"weight": ("F8_E4M3", [32, 64], [7]), "weight_scale_inv": ("F32", [2, 2], [0.5])},
        ),
    ),
    "bitsandbytes": (
        ({"load_in_8bit": True}, {"weight": ("I8", [8, 64], [7]), "SCB": ("F32", [8], [9.5])}),
        (
            {"load_in_4bit": True},
            {"weight": ("U8", [256, 1], [7]), "weight.absmax": ("U8", [8], [60]), "weight.nested_absmax":
             ("F32", [2], [3.0]), "weight.quant_map": ("F32", [16], [-1, 1]),
             "weight.nested_quant_map": ("F32", [256], [0.1, 0.7]),
             "weight.quant_state.bitsandbytes__nf4": ("U8", [len(STATE)], STATE)},
        ),
    ),
    "hqq": (
        (
            {"quant_config": {"weight_quant_params": {"nbits": 4, "group_size": 32, "axis": 1}}},
            {"W_q": ("U8", [16, 32], [7]), "scale": ("F16", [32, 1], [0.5, 2]), "zero": ("F16", [32, 1], [0.5, 2]),
             "shape": ("I64", [2], [16, 64])},
        ),
    ),
    "mxfp4": (
        ({}, {"down_proj_blocks": ("U8", [2, 4, 2, 16], [7]), "down_proj_scales": ("U8", [2, 4, 2], [120])}),
    ),
    "lora": (
        (
            {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "rank_pattern": {"o_proj": 2}, "target_modules": ["o_proj"],
             "alpha_pattern": {}, "use_rslora": True, "fan_in_fan_out": False, "base_model_name_or_path": "base"},
            {"lora_A.weight": ("F32", [2, 64], [0.5, -1]), "lora_B.weight": ("F32", [16, 2], [0.5, 2])},
        ),
    ),
}  # fmt: skip
"""Method → samples: its configuration, and the tensors of a module as (type, shape, the values that they repeat)."""


def samples(method: str) -> Callable[[], tuple[bytes, ...]]:
    """Return the samples of a method, each as JSON."""
    made = [
        {"config": config, "tensors": {f"{OUT}.{name}": list(tensor) for name, tensor in tensors.items()}}
        for config, tensors in SAMPLES[method]
    ]
    return lambda: tuple(json.dumps(sample).encode() for sample in made)


def quantized(room: Callable[[], Path], method: str) -> Callable[[bytes], object]:
    """Return a reader of a checkpoint that a method quantized, to its last rows."""

    def read(raw: bytes) -> object:
        from zoo.plugins import host
        from zoo.sources.folder import open_folder
        from zoo.stages.weights import transformed

        stated = _parse(raw)
        folder = room() / method
        folder.mkdir(exist_ok=True)
        config = stated["config"] | {"quant_method": method} if isinstance(stated["config"], dict) else stated["config"]
        (folder / "config.json").write_text(json.dumps({"model_type": "llama", "quantization_config": config}))
        (folder / "model.safetensors").write_bytes(_file(stated["tensors"]))
        return _use(transformed(host().registry, open_folder(folder)))

    return read


def adapter(room: Callable[[], Path]) -> Callable[[bytes], object]:
    """Return a reader of an adapter, merged into a checkpoint that it was made for."""

    def read(raw: bytes) -> object:
        from zoo.sources.adapter import Adapter
        from zoo.sources.folder import open_folder
        from zoo.sources.merged import MergedCheckpoint

        stated = _parse(raw)
        base, folder = room() / "base", room() / "lora"
        for path in (base, folder):
            path.mkdir(exist_ok=True)
        (base / "config.json").write_text('{"model_type": "llama"}')
        (base / "model.safetensors").write_bytes(_file({f"{OUT}.weight": ["F32", [16, 64], [0.5]]}))
        (folder / "adapter_config.json").write_text(json.dumps(stated["config"]))
        (folder / "adapter_model.safetensors").write_bytes(_file(stated["tensors"]))
        return _use(MergedCheckpoint(open_folder(base), Adapter(folder, "lora"), 1.0, {}))

    return read


def imatrix(room: Callable[[], Path]) -> Callable[[bytes], object]:
    """Return a reader of llama.cpp's importance matrices, in either form."""

    def read(raw: bytes) -> object:
        from zoo_gguf.imatrix import read_imatrix

        path = room() / "imatrix"
        path.write_bytes(raw)
        return read_imatrix(path)

    return read


def imatrices(room: Callable[[], Path]) -> Callable[[], tuple[bytes, ...]]:
    """Return the samples of both forms."""

    def make() -> tuple[bytes, ...]:
        from tests.plugins.gguf.test_imatrix import as_dat, as_gguf

        means = {"blk.0.attn_q.weight": np.ones(32, np.float32), "blk.0.ffn_down.weight": np.ones(48, np.float32)}
        return tuple(write(room() / "sample", means).read_bytes() for write in (as_gguf, as_dat))

    return make


def _use(checkpoint: Any) -> list[object]:
    """Read the last rows of every tensor, as numbers and as blocks."""
    read: list[object] = []
    for name, info in checkpoint.tensors.items():
        rows = flat_shape(info.shape)[0] if len(info.shape) > 1 else math.prod(info.shape)
        if block_scheme(checkpoint, name) is not None:
            read.append(checkpoint.read_blocks(name, max(0, rows - 3), rows))
        if info.dtype in ("F32", "F16", "BF16"):
            read.append(checkpoint.read(name, max(0, rows - 3), rows))
    checkpoint.close()
    return read


def _parse(raw: bytes) -> Mapping[str, Any]:
    from zoo.sources.jsonfile import parse_object

    stated = parse_object(raw, "sample", duplicates=True)
    if not isinstance(stated.get("tensors"), dict) or "config" not in stated:
        raise ZooError("not a sample")
    return stated


def _file(tensors: Mapping[str, Any]) -> bytes:
    """Write safetensors of what a sample states, strange shapes and types included."""
    header, data = {}, b""
    for name, tensor in tensors.items():
        if not isinstance(tensor, list) or len(tensor) != 3:
            raise ZooError("not a sample")
        dtype, shape, values = tensor
        known = isinstance(shape, list) and all(type(size) is int and size >= 0 for size in shape)
        written = _data(str(dtype), values, min(math.prod(shape) if known else 0, 2**16))
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(written)]}
        data += written
    raw = json.dumps(header).encode()
    return len(raw).to_bytes(8, "little") + raw + data


def _data(dtype: str, values: Any, count: int) -> bytes:
    """Repeat values, numbers or a text, as so many of a type."""
    given = list(values.encode("utf-8", "replace")) if isinstance(values, str) else values
    numbers = [value for value in given if isinstance(value, int | float)] if isinstance(given, list) else []
    bounded = np.array([min(max(value, -1e300), 1e300) for value in numbers] or [0], float)
    kind = BY_CODE[dtype].numpy if dtype in BY_CODE else ""
    with np.errstate(all="ignore"):
        return np.resize(bounded, count).astype(kind or "u1").tobytes()
