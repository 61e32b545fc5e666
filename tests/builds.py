"""Small checkpoints, and parts that are just large enough to build them: no graph, every shape."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from zoo.contracts import HeadPadding, PackageContents, Parameter, RowSlice, StoredArray, stacked
from zoo.declarations.architecture import Architecture
from zoo.declarations.licence import UNKNOWN_LICENCE
from zoo.declarations.recipe import QuantizerChoice, Recipe, TargetChoice, WeightsPin
from zoo.quantizers.rtn import Rtn
from zoo.registry import Registry
from zoo.targets.ort.encoding import MatMulNBits

NUMPY = {"F32": np.float32, "F16": np.float16, "BF16": np.uint16}


def to_bf16(values: np.ndarray) -> np.ndarray:
    """Cut float32 down to bfloat16 bit patterns."""
    return (np.ascontiguousarray(values, np.float32).view(np.uint32) >> 16).astype(np.uint16)


def write_safetensors(path: Path, tensors: dict[str, tuple[str, np.ndarray]]) -> None:
    """Write a file of the safetensors format: name → (dtype, stored values)."""
    header, at = {}, 0
    for name, (dtype, values) in tensors.items():
        header[name] = {"dtype": dtype, "shape": list(values.shape), "data_offsets": [at, at + values.nbytes]}
        at += values.nbytes
    raw = json.dumps(header).encode()
    raw += b" " * (-len(raw) % 8)
    path.write_bytes(struct.pack("<Q", len(raw)) + raw + b"".join(values.tobytes() for _, values in tensors.values()))


class Flat:
    """An architecture of an embedding and a stack of linears and norms: every kind of parameter, no computation."""

    activations = frozenset({"silu"})

    def tensors(self, arch: Architecture) -> dict[str, tuple[int, ...]]:
        return {each.tensor: each.tensor_shape for one in self.parameters(arch) for each in one.slices}

    def ignored(self, arch: Architecture, name: str) -> bool:
        return name.endswith("inv_freq")

    def parameters(self, arch: Architecture, head_multiple: int = 1) -> list[Parameter]:
        hidden, size = arch.hidden_size, arch.head_dim
        heads, kv = arch.num_attention_heads, arch.num_key_value_heads
        padded = -(-size // head_multiple) * head_multiple
        q, k = (HeadPadding(n, size, padded, True) if padded != size else None for n in (heads, kv))
        v, o = (HeadPadding(n, size, padded, False) if padded != size else None for n in (kv, heads))
        result = [
            Parameter("embed", "embedding", (RowSlice("embed.weight", (arch.vocab_size, hidden)),), role="embed_tokens")
        ]
        for layer in range(arch.num_hidden_layers):
            at = f"layers.{layer}"
            qkv = stacked(
                RowSlice(f"{at}.q.weight", (heads * size, hidden), pad_rows=q),
                RowSlice(f"{at}.k.weight", (kv * size, hidden), pad_rows=k),
                RowSlice(f"{at}.v.weight", (kv * size, hidden), pad_rows=v),
            )
            result += [
                Parameter(f"{at}.norm", "norm", (RowSlice(f"{at}.norm.weight", (hidden,)),), layer, "norm"),
                Parameter(f"{at}.qkv", "linear", qkv, layer, "attn.qkv_proj"),
                Parameter(
                    f"{at}.o",
                    "linear",
                    (RowSlice(f"{at}.o.weight", (hidden, heads * size), pad_columns=o),),
                    layer,
                    "attn.o_proj",
                ),
            ]
        result.append(
            Parameter("head", "linear", (RowSlice("head.weight", (arch.vocab_size, hidden)),), role="lm_head")
        )
        return result


class FlatTarget:
    """A target that places arrays end to end, aligned, and writes one small file."""

    Options = Rtn.Options
    precisions = {"fp32": "float", "fp16": "float", "int8": "rtn", "int4": "rtn"}  # noqa: RUF012
    operations = None
    emitter_version = 1
    needs_weights = True
    engines: ClassVar[dict[str, str]] = {}
    data_file = "weights.data"
    head_multiple = 16
    view = "graph"
    encoding = MatMulNBits()

    def check(self, recipe: Recipe) -> None: ...

    def place(self, recipe: Any, parameters: Any, schemes: Any) -> list[StoredArray]:
        placed, at = [], 0
        for one in parameters:
            for name, array in self.encoding.arrays(schemes[one.name], one.shape).items():
                at = -(-at // 64) * 64
                placed.append(StoredArray(one, name, array.dtype, array.shape, at, array.nbytes, self.data_file))
                at += array.nbytes
        return placed

    def headers(self, contents: PackageContents) -> dict[str, bytes]:
        return {}

    def files(self, contents: PackageContents) -> list[tuple[str, bytes]]:
        return [("graph.json", json.dumps([[a.parameter.name, a.array, a.offset] for a in contents.arrays]).encode())]


def registry() -> Registry:
    """A registry of the bundled quantizers and the parts of this module."""
    return Registry(
        architectures={"flat": "tests.builds:Flat"},
        quantizers={"rtn": "zoo.quantizers.rtn:Rtn", "float": "zoo.quantizers.floats:Float"},
        targets={"flat": "tests.builds:FlatTarget"},
    )


def architecture(**numbers: Any) -> Architecture:
    """Numbers of a small model."""
    base = {
        "type": "flat", "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 3, "num_attention_heads": 4,
        "num_key_value_heads": 2, "head_dim": 16, "vocab_size": 101, "max_position_embeddings": 64,
    }  # fmt: skip
    return Architecture.model_validate({**base, **numbers})


def values_of(arch: Architecture, seed: int = 0) -> dict[str, np.ndarray]:
    """Seeded float32 values for every tensor, already exact in float16 and bfloat16."""
    rng = np.random.default_rng(seed)
    values = {}
    for name, shape in Flat().tensors(arch).items():
        drawn = rng.standard_normal(shape).astype(np.float32)
        values[name] = (to_bf16(drawn).astype(np.uint32) << 16).view(np.float32)
    return values


def write_checkpoint(folder: Path, arch: Architecture, *, dtype: str = "F16", shards: int = 1, seed: int = 0) -> Path:
    """Write a checkpoint folder of the ``Flat`` architecture."""
    folder.mkdir(parents=True, exist_ok=True)
    stored = {}
    for name, values in values_of(arch, seed).items():
        stored[name] = (dtype, to_bf16(values) if dtype == "BF16" else values.astype(NUMPY[dtype]))
    config = {"model_type": "flat", "vocab_size": arch.vocab_size, "bos_token_id": 1, "eos_token_id": 2}
    (folder / "config.json").write_text(json.dumps(config))
    if shards == 1:
        write_safetensors(folder / "model.safetensors", stored)
        return folder
    names = list(stored)
    weight_map = {}
    for shard in range(shards):
        file = f"model-{shard + 1:05d}-of-{shards:05d}.safetensors"
        mine = names[shard::shards]
        write_safetensors(folder / file, {name: stored[name] for name in mine})
        weight_map |= dict.fromkeys(mine, file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    return folder


def make_recipe(arch: Architecture, precision: str = "int8", digest: str = "0" * 64, **options: Any) -> Recipe:
    """A recipe of the ``Flat`` parts."""
    quantizer = "rtn" if precision.startswith("int") else "float"
    return Recipe(
        model="small", licence=UNKNOWN_LICENCE, weights=WeightsPin(digest=digest), architecture=arch,
        precision=precision, quantizer=QuantizerChoice(name=quantizer, options=options),
        target=TargetChoice(name="flat"),
    )  # fmt: skip
