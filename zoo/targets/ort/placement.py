"""Where each stored array lies in the data file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from zoo.contracts import Parameter, StoredArray
from zoo.declarations.scheme import Scheme
from zoo.targets.ort.encoding import ENCODING

DATA_FILE = "model.onnx.data"
PAGE = 4096
LINE = 64
"""Small arrays start on a cache line; whole pages would be mostly empty."""


def place(parameters: Sequence[Parameter], schemes: Mapping[str, Scheme]) -> list[StoredArray]:
    """Lay the parameters' arrays one behind the other, large ones on a page of their own so that they can be mapped."""
    placed: list[StoredArray] = []
    offset = 0
    for parameter in parameters:
        for name, layout in ENCODING.arrays(schemes[parameter.name], parameter.shape).items():
            align = PAGE if layout.nbytes >= PAGE else LINE
            offset = -(-offset // align) * align
            placed.append(StoredArray(parameter, name, layout.dtype, layout.shape, offset, layout.nbytes, DATA_FILE))
            offset += layout.nbytes
    return placed
