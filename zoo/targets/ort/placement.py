"""Where each stored array lies in the data file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from zoo.contracts import Parameter, StoredArray
from zoo.declarations.storage import BlockStorage, FloatStorage

PAGE = 4096
LINE = 64
"""Small arrays start on a cache line; whole pages would be mostly empty."""


def place(parameters: Sequence[Parameter], storages: Mapping[str, FloatStorage | BlockStorage]) -> list[StoredArray]:
    """Lay the parameters' arrays one behind the other, large ones on a page of their own so that they can be mapped."""
    placed: list[StoredArray] = []
    offset = 0
    for parameter in parameters:
        for name, layout in storages[parameter.name].arrays(parameter.shape).items():
            align = PAGE if layout.nbytes >= PAGE else LINE
            offset = -(-offset // align) * align
            placed.append(StoredArray(parameter, name, layout.dtype, layout.shape, offset, layout.nbytes))
            offset += layout.nbytes
    return placed
