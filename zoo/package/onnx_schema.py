"""The messages of an ONNX model: which fields each may have, and how they are written.

Source: https://github.com/onnx/onnx/blob/main/onnx/onnx.proto; a test compares every line with the onnx library.
Messages that our graphs never hold (devices, sharding) are left out, so a model with them is refused.
"""

from __future__ import annotations

from typing import NamedTuple


class Field(NamedTuple):
    """A field of a message."""

    kind: str
    """``v`` a varint, ``f`` 4 bytes, ``d`` 8 bytes, ``s`` text or bytes, else the name of a message."""
    repeated: bool = False


def _fields(text: str) -> dict[int, Field]:
    """Read ``number kind`` pairs; a star marks a repeated field."""
    words = text.split()
    return {
        int(number): Field(kind.removesuffix("*"), kind.endswith("*"))
        for number, kind in zip(words[::2], words[1::2], strict=True)
    }


MESSAGES: dict[str, dict[int, Field]] = {
    "ModelProto": _fields(
        "1 v 2 s 3 s 4 s 5 v 6 s 7 GraphProto 8 OperatorSetIdProto* 14 StringStringEntryProto* 25 FunctionProto*"
    ),
    "GraphProto": _fields(
        "1 NodeProto* 2 s 5 TensorProto* 10 s 11 ValueInfoProto* 12 ValueInfoProto* 13 ValueInfoProto* "
        "14 TensorAnnotation* 15 SparseTensorProto* 16 StringStringEntryProto*"
    ),
    "NodeProto": _fields("1 s* 2 s* 3 s 4 s 5 AttributeProto* 6 s 7 s 8 s 9 StringStringEntryProto*"),
    "AttributeProto": _fields(
        "1 s 2 f 3 v 4 s 5 TensorProto 6 GraphProto 7 f* 8 v* 9 s* 10 TensorProto* 11 GraphProto* 13 s 14 TypeProto "
        "15 TypeProto* 20 v 21 s 22 SparseTensorProto 23 SparseTensorProto*"
    ),
    "TensorProto": _fields(
        "1 v* 2 v 4 f* 5 v* 6 s* 7 v* 8 s 9 s 10 d* 11 v* 12 s 13 StringStringEntryProto* 14 v "
        "16 StringStringEntryProto*"
    ),
    "StringStringEntryProto": _fields("1 s 2 s"),
    "TypeProto": _fields("1 Tensor 4 Sequence 5 Map 6 s 8 SparseTensor 9 Optional"),
    "Tensor": _fields("1 v 2 TensorShapeProto"),
    "TensorShapeProto": _fields("1 Dimension*"),
    "Dimension": _fields("1 v 2 s 3 s"),
    "Sequence": _fields("1 TypeProto"),
    "Map": _fields("1 v 2 TypeProto"),
    "SparseTensor": _fields("1 v 2 TensorShapeProto"),
    "Optional": _fields("1 TypeProto"),
    "SparseTensorProto": _fields("1 TensorProto 2 TensorProto 3 v*"),
    "ValueInfoProto": _fields("1 s 2 TypeProto 3 s 4 StringStringEntryProto*"),
    "TensorAnnotation": _fields("1 s 2 StringStringEntryProto*"),
    "OperatorSetIdProto": _fields("1 s 2 v"),
    "FunctionProto": _fields(
        "1 s 4 s* 5 s* 6 s* 7 NodeProto* 8 s 9 OperatorSetIdProto* 10 s 11 AttributeProto* 12 ValueInfoProto* 13 s "
        "14 StringStringEntryProto*"
    ),
}
