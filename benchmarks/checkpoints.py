#!/usr/bin/env python3
"""Make a Hugging Face Llama checkpoint folder of a given shape, without torch and in little memory.

    python benchmarks/checkpoints.py llama-33b OUT --fill sparse        # holes instead of data: costs no disk
    python benchmarks/checkpoints.py tinyllama-1.1b OUT --fill random   # seeded normal(0, 0.02) weights
    python benchmarks/checkpoints.py llama-33b OUT --fill sparse --dtype Q4_K    # OUT/model.gguf
    python benchmarks/checkpoints.py llama-33b OUT --fill sparse --dtype gptq    # 4 bits, groups of 128

Sparse files read back as zeros: right for measuring memory, disk traffic and the layout of a build, and useless for
accuracy.  A tokenizer of the shape's vocabulary lies beside the weights, so that every peer's converter accepts it.
"""

import argparse
import json
import math
import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from shapes import SHAPES
from tokenizer_files import write_tokenizer

ITEM = {"float32": ("F32", 4), "float16": ("F16", 2), "bfloat16": ("BF16", 2)}
GPTQ = {"quant_method": "gptq", "bits": 4, "group_size": 128, "desc_act": False, "sym": False}
ROWS = 1024

Entry = tuple[str, tuple[int, ...]]
"""Name and shape; in a checkpoint of GPTQ, names that end in a key of ``PACKED`` are of its type."""
PACKED = {"qweight": ("I32", 4), "qzeros": ("I32", 4)}


def encode(block: NDArray[np.float32], dtype: str) -> bytes:
    """Return the bytes of `block` in a safetensors type; bfloat16 by dropping the low half of each float32."""
    if dtype == "bfloat16":
        return (block.view(np.uint32) >> 16).astype(np.uint16).tobytes()
    return block.astype(dtype).tobytes()


def item(name: str, dtype: str) -> tuple[str, int]:
    """Give a tensor's type in safetensors and its bytes."""
    return PACKED.get(name.rpartition(".")[2], ITEM.get(dtype, ITEM["float16"]))


def packed(entry: Entry) -> list[Entry]:
    """List the tensors of GPTQ that stand for a linear, or what is not one."""
    name, shape = entry
    if "_proj" not in name:
        return [entry]
    module, (out, columns), groups = name.removesuffix(".weight"), shape, shape[1] // GPTQ["group_size"]
    return [(f"{module}.qweight", (columns // 8, out)), (f"{module}.qzeros", (groups, out // 8)),
            (f"{module}.scales", (groups, out))]  # fmt: skip


def write_shard(path: Path, entries: list[Entry], dtype: str, rng: np.random.Generator | None) -> None:
    """Write one safetensors file: ones for norms and normal(0, 0.02) for matrices, or holes where `rng` is None.

    The layout is the one of https://huggingface.co/docs/safetensors: header length, JSON header, data.
    """
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    at = 0
    for name, shape in entries:
        tag, size = item(name, dtype)
        end = at + math.prod(shape) * size
        header[name] = {"dtype": tag, "shape": list(shape), "data_offsets": [at, end]}
        at = end
    raw = json.dumps(header).encode()
    raw += b" " * (-len(raw) % 8)
    with open(path, "wb") as out:
        out.write(struct.pack("<Q", len(raw)) + raw)
        if rng is None:
            out.truncate(8 + len(raw) + at)
            return
        for _, shape in entries:
            if len(shape) == 1:
                out.write(encode(np.ones(shape, np.float32), dtype))
                continue
            for row in range(0, shape[0], ROWS):
                block = rng.standard_normal((min(ROWS, shape[0] - row), shape[1]), np.float32) * np.float32(0.02)
                out.write(encode(block, dtype))


def split(entries: list[Entry], dtype: str, limit: float) -> list[list[Entry]]:
    """Cut tensors into shards of at most `limit` bytes, or of one tensor."""
    shards: list[list[Entry]] = [[]]
    room = limit
    for entry in entries:
        need = math.prod(entry[1]) * item(entry[0], dtype)[1]
        if need > room and shards[-1]:
            shards.append([])
            room = limit
        shards[-1].append(entry)
        room -= need
    return shards


def make(
    name: str, out: Path, fill: str = "random", dtype: str = "float16", shard_gb: float = 2.0, seed: int = 0
) -> int:
    """Write the checkpoint folder, config.json last, and return the bytes of its tensors."""
    shape = SHAPES[name]
    entries = list(shape.tensors())
    if dtype == "gptq":
        entries = [part for entry in entries for part in packed(entry)]
    shards = split(entries, dtype, shard_gb * 1e9)
    out.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed) if fill == "random" else None
    where: dict[str, str] = {}
    for number, listed in enumerate(shards, 1):
        file = "model.safetensors" if len(shards) == 1 else f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        write_shard(out / file, listed, dtype, rng)
        where |= {tensor: file for tensor, _ in listed}
    total = sum(math.prod(size) * item(name, dtype)[1] for name, size in entries)
    if len(shards) > 1:
        index = {"metadata": {"total_size": total}, "weight_map": where}
        (out / "model.safetensors.index.json").write_text(json.dumps(index, indent=1))
    write_tokenizer(out, shape.vocab, shape.context)
    generation = {"bos_token_id": 1, "eos_token_id": 2, "do_sample": False}
    (out / "generation_config.json").write_text(json.dumps(generation, indent=1))
    config = shape.config("float16") | {"quantization_config": GPTQ} if dtype == "gptq" else shape.config(dtype)
    (out / "config.json").write_text(json.dumps(config, indent=1))
    return total


def make_gguf(name: str, out: Path, kind: str) -> int:
    """Write `out`/model.gguf, a sparse file with matrices of a GGUF type and no tokenizer; return its bytes."""
    import gguf

    shape, out_file = SHAPES[name], out / "model.gguf"
    out.mkdir(parents=True, exist_ok=True)
    writer = gguf.GGUFWriter(str(out_file), "llama")
    for add, value in (
        (writer.add_context_length, shape.context), (writer.add_embedding_length, shape.hidden),
        (writer.add_block_count, shape.layers), (writer.add_feed_forward_length, shape.ffn),
        (writer.add_head_count, shape.heads), (writer.add_head_count_kv, shape.kv_heads),
        (writer.add_layer_norm_rms_eps, shape.eps), (writer.add_rope_freq_base, shape.theta),
    ):  # fmt: skip
        add(value)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, shape.layers)
    total = 0
    for tensor, size in shape.tensors():
        number = gguf.GGMLQuantizationType[kind if len(size) > 1 else "F32"]
        block, nbytes = gguf.GGML_QUANT_SIZES[number]
        row = (*size[:-1], size[-1] // block * nbytes)
        total += -(-math.prod(row) // 32) * 32
        stored = names.get_name(tensor, (".weight",))
        writer.add_tensor_info(stored, row, np.dtype(np.uint8), math.prod(row), raw_dtype=number)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    writer.close()
    with out_file.open("r+b") as file:
        file.truncate(-(-out_file.stat().st_size // 32) * 32 + total)
    return total


def ensure(cache: Path, name: str, fill: str, dtype: str = "float16") -> Path:
    """Return a checkpoint under `cache`, a folder or a GGUF file, making it where it is absent."""
    out = cache / "checkpoints" / f"{name}-{fill}-{dtype}"
    if dtype not in (*ITEM, "gptq"):
        if not (out / "model.gguf").is_file():
            make_gguf(name, out, dtype)
        return out / "model.gguf"
    if not (out / "config.json").is_file():
        make(name, out, fill, dtype)
    return out


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shape", choices=SHAPES)
    parser.add_argument("out", type=Path)
    parser.add_argument("--fill", choices=["random", "sparse"], default="random")
    parser.add_argument("--dtype", default="float16", help=f"{', '.join(ITEM)}, gptq, or a type of GGUF [float16]")
    parser.add_argument("--shard-gb", type=float, default=2.0)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    if args.dtype in (*ITEM, "gptq"):
        total = make(args.shape, args.out, args.fill, args.dtype, args.shard_gb, args.seed)
    else:
        total = make_gguf(args.shape, args.out, args.dtype)
    parameters = SHAPES[args.shape].parameters()
    print(f"{args.shape}: {parameters:,} parameters, {total / 1e9:.2f} GB of {args.dtype} ({args.fill})")


if __name__ == "__main__":
    main()
