"""Where an ONNX model keeps its weights, read from the graph's bytes without loading graph or weights.

Source: https://github.com/onnx/onnx/blob/main/onnx/onnx.proto, field numbers.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path

from zoo.errors import ZooError
from zoo.protobuf import BYTES, Malformed, Raw, fields

_MODEL, _GRAPH, _NODE, _ATTRIBUTE, _SPARSE, _TENSOR, _ENTRY, _FUNCTION, _TRAINING = range(9)
# Which fields of a message hold messages that can hold tensors.
_CHILDREN: dict[int, dict[int, int]] = {
    _MODEL: {7: _GRAPH, 20: _TRAINING, 25: _FUNCTION},
    _GRAPH: {1: _NODE, 5: _TENSOR, 15: _SPARSE},
    _NODE: {5: _ATTRIBUTE},
    _ATTRIBUTE: {5: _TENSOR, 6: _GRAPH, 10: _TENSOR, 11: _GRAPH, 22: _SPARSE, 23: _SPARSE},
    _SPARSE: {1: _TENSOR, 2: _TENSOR},
    _TENSOR: {13: _ENTRY},
    _FUNCTION: {7: _NODE, 11: _ATTRIBUTE},
    _TRAINING: {1: _GRAPH, 2: _GRAPH},
}
_MAX_MODEL = 2**31
_MAX_DEPTH = 64


def external_files(path: Path, where: str) -> list[str]:
    """List the ``location`` of every externally kept tensor of a model, each once.

    Raises:
        ZooError: the file is no ONNX model.
    """
    try:
        with path.open("rb") as file:
            size = path.stat().st_size
            if size > _MAX_MODEL:
                raise ZooError(f"{where}: {size} bytes are too many for a graph")
            if size == 0:
                return []
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as raw:
                return list(dict.fromkeys(_locations(raw, 0, size, _MODEL, 0)))
    except OSError as error:
        raise ZooError(f"{where}: {error.strerror or error}") from None
    except Malformed as error:
        raise ZooError(f"{where}: no ONNX model: {error}") from None


def _locations(raw: Raw, start: int, stop: int, message: int, depth: int) -> Iterator[str]:
    if depth > _MAX_DEPTH:
        raise Malformed("nested too deep")
    children = _CHILDREN[message]
    for number, kind, begin, end in fields(raw, start, stop):
        child = children.get(number)
        if child is None or kind != BYTES:
            continue
        if child == _ENTRY:
            entry = {one: raw[b:e] for one, wire, b, e in fields(raw, begin, end) if wire == BYTES}
            if entry.get(1) == b"location":
                yield entry.get(2, b"").decode("utf-8", "replace")
        else:
            yield from _locations(raw, begin, end, child, depth + 1)
