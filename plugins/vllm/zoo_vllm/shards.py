"""Safetensors files with an index: where each array lies, and what each file begins with.

Source: the format's README, https://github.com/huggingface/safetensors (header, alignment, no holes), and transformers'
``model.safetensors.index.json``.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

import zoo
from zoo import BlockScheme, Encoding, PackageContents, Parameter, Scheme, StoredArray

INDEX = "model.safetensors.index.json"
SHAPE = "weight_shape"


def tensor_name(array: StoredArray) -> str:
    """Name an array as a tensor: ``x.weight`` becomes ``x.weight_packed``, ``x.weight_scale``; floats keep theirs."""
    return array.parameter.name.removesuffix("weight") + array.array if array.array else array.parameter.name


def packed(schemes: Mapping[str, Scheme], format: str) -> list[str]:
    """List the weights whose shape a tensor of its own must state, since levels are packed."""
    return [name for name, one in schemes.items() if isinstance(one, BlockScheme) and format == "pack-quantized"]


def place(
    parameters: Sequence[Parameter], schemes: Mapping[str, Scheme], encoding: Encoding, most: float, format: str
) -> Iterator[StoredArray]:
    """Fill files with whole weights, in order, each file with at most so many bytes unless one weight alone has more.

    A file ends early where the next array would not be aligned to its type: the format has no holes.
    """
    files: list[list[StoredArray]] = [[]]
    at = 0
    for parameter in parameters:
        layouts = encoding.arrays(schemes[parameter.name], parameter.shape)
        size, offset, aligned = sum(layout.nbytes for layout in layouts.values()), at, True
        for layout in layouts.values():
            aligned &= offset % _width(layout.dtype) == 0
            offset += layout.nbytes
        if files[-1] and (at + size > most or not aligned):
            files.append([])
            at = 0
        for name, layout in layouts.items():
            array = StoredArray(parameter, name, layout.dtype, layout.shape, at, layout.nbytes, "", layout.rows)
            files[-1].append(array)
            at += layout.nbytes
    count = len(files) + bool(packed(schemes, format))
    for number, arrays in enumerate(files, 1):
        for one in arrays:
            yield replace(one, file=_file(number, count))


def headers(contents: PackageContents) -> dict[str, bytes]:
    """Make each file's header: the tensors, their types, shapes and places."""
    entries: dict[str, dict[str, object]] = {}
    for array in contents.arrays:
        entry = entries.setdefault(array.file, {"__metadata__": {"format": "pt"}})
        dtype, shape = zoo.DTYPES[array.dtype].code, list(array.shape)
        if array.array == "weight_packed":  # bytes here, words for those who read it
            dtype, shape = "I32", [shape[0], shape[1] // 4]
        place = [array.offset, array.offset + array.nbytes]
        entry[tensor_name(array)] = {"dtype": dtype, "shape": shape, "data_offsets": place}
    return {file: _header(entry) for file, entry in entries.items()}


def files(contents: PackageContents, format: str) -> Iterable[tuple[str, bytes]]:
    """Make the file of packed weights' shapes, and the index of all tensors."""
    weight_map = {tensor_name(array): array.file for array in contents.arrays}
    total = sum(array.nbytes for array in contents.arrays)
    shapes = {array.parameter.name: array.parameter.shape for array in contents.arrays}
    names = packed(contents.schemes, format)
    if names:
        count = len(set(weight_map.values())) + 1
        entry: dict[str, object] = {"__metadata__": {"format": "pt"}}
        for number, name in enumerate(names):
            tensor = name.removesuffix("weight") + SHAPE
            entry[tensor] = {"dtype": "I64", "shape": [2], "data_offsets": [16 * number, 16 * number + 16]}
            weight_map[tensor] = _file(count, count)
        yield _file(count, count), _header(entry) + b"".join(struct.pack("<qq", *shapes[name]) for name in names)
        total += 16 * len(names)
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    yield INDEX, json.dumps(index, indent=1).encode()


def _header(entry: Mapping[str, object]) -> bytes:
    raw = json.dumps(entry, separators=(",", ":")).encode()
    raw += b" " * (-len(raw) % 8)
    return struct.pack("<Q", len(raw)) + raw


def _file(number: int, count: int) -> str:
    return f"model-{number:05}-of-{count:05}.safetensors"


def _width(dtype: str) -> int:
    """Say what an array must be aligned to: packed bytes are read as int32."""
    return 4 if dtype == "uint8" else zoo.DTYPES[dtype].nbytes
