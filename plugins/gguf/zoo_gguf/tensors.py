"""The tensors of a GGUF file under transformers' names, as the rows of what the file stores."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Any

from zoo import TensorInfo, ZooError
from zoo_gguf.architectures import OUTSIDE, GgufArchitecture
from zoo_gguf.header import StoredTensor

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_LAYER = re.compile(r"blk\.(\d{1,5})\.(\w+)")
_SPECIAL = re.compile(r"rope_freqs|rope_factors_(long|short)|blk\.\d{1,5}\.attn_rot_embd")
"""Tables of rotary frequencies, which the configuration states."""
MAX_EXPERTS = 1024
PLAIN = {"F32": "F32", "F16": "F16", "BF16": "BF16"}
"""Types that are stored as a build reads them → safetensors' names."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor as a build sees it."""

    info: TensorInfo
    """Quantized types are read as float32."""
    stored: StoredTensor
    heads: int = 0
    """Heads whose rows lie with the pairs that positions turn side by side; 0 for rows in their order."""
    offset: float = 0.0
    """Taken from every value."""


def make_tensors(
    architecture: GgufArchitecture,
    config: Mapping[str, Any],
    files: Mapping[str, Mapping[str, StoredTensor]],
    where: str,
) -> dict[str, Tensor]:
    """Name the tensors of all parts.

    A tensor that the architecture does not know keeps its name, so that a build says what is left over.

    Args:
        files: part → its tensors.

    Raises:
        ZooError: a type that is not dequantized, heads that do not divide the rows, or experts that are not matrices.
    """
    tensors: dict[str, Tensor] = {}
    for file, listed in files.items():
        for stored in listed.values():
            stem, _, kind = stored.name.rpartition(".")
            if _SPECIAL.fullmatch(stem):
                continue
            dtype = PLAIN.get(stored.kind, "F32")
            if stored.kind not in PLAIN and not _is_readable(stored.kind):
                what = f"tensor {stored.name!r} is of type {stored.kind}"
                raise ZooError(f"{where}: {what}, which the package gguf does not dequantize")
            heads = _permuted_heads(architecture, config, stem, stored, where)
            offset = architecture.norm_offset if stem.endswith("norm") else 0.0
            if offset and stored.kind != "F32":
                raise ZooError(f"{where}: norm {stored.name!r} is stored as {stored.kind}, not as F32")
            for name, piece in _named(architecture, stem, kind, stored, where):
                if name in tensors:
                    raise ZooError(f"{where}: {stored.name!r} and {tensors[name].stored.name!r} both are {name!r}")
                nbytes = piece.nbytes if piece.kind in PLAIN else 4 * math.prod(piece.shape)
                tensors[name] = Tensor(TensorInfo(name, dtype, piece.shape, nbytes, file), piece, heads, offset)
    return tensors


@cache
def _is_readable(kind: str) -> bool:
    """Tell whether the package gguf dequantizes a type; it says so by trying."""
    import numpy as np
    from gguf.constants import GGMLQuantizationType
    from gguf.quants import dequantize, quant_shape_to_byte_shape

    number = GGMLQuantizationType[kind]
    try:
        with np.errstate(all="ignore"):
            dequantize(np.zeros(quant_shape_to_byte_shape((1, 256), number), np.uint8), number)
    except NotImplementedError:
        return False
    return True


def decode(raw: NDArray[np.uint8], tensor: Tensor, out: NDArray[np.uint8] | None) -> NDArray[Any]:
    """Turn whole rows as stored, (rows, row bytes), into numbers, (rows, columns) of the type that ``info`` states."""
    import numpy as np

    if tensor.stored.kind in PLAIN:
        values = raw.view({"F32": "<f4", "F16": "<f2", "BF16": "<u2"}[tensor.stored.kind])
    else:
        from gguf.constants import GGMLQuantizationType
        from gguf.quants import dequantize

        with np.errstate(all="ignore"):  # what is not finite is refused by the build, with its name
            values = dequantize(raw, GGMLQuantizationType[tensor.stored.kind])
    if tensor.offset:
        values = values - np.float32(tensor.offset)
    if out is None:
        return values
    into = out[: values.nbytes].view(values.dtype).reshape(values.shape)
    into[...] = values
    return into


def in_halves(rows: NDArray[Any], heads: int) -> NDArray[Any]:
    """Put the rows of whole heads as transformers has them: pairs half a head apart, not side by side."""
    pairs = rows.reshape(heads, rows.shape[0] // heads // 2, 2, *rows.shape[1:])
    return pairs.swapaxes(1, 2).reshape(rows.shape)


def _named(
    architecture: GgufArchitecture, stem: str, kind: str, stored: StoredTensor, where: str
) -> Iterator[tuple[str, StoredTensor]]:
    """Name a tensor, or the matrix of each expert in it."""
    layer = _LAYER.fullmatch(stem)
    if layer is None:
        yield f"{OUTSIDE.get(stem, stem)}.{kind}" if stem else stored.name, stored
        return
    at, expert = f"model.layers.{int(layer[1])}", architecture.experts.get(layer[2])
    if expert is None:
        name = architecture.layer.get(layer[2])
        yield f"{at}.{name}.{kind}" if name else stored.name, stored
        return
    if len(stored.shape) != 3 or stored.shape[0] > MAX_EXPERTS:
        raise ZooError(f"{where}: {stored.name!r} is {list(stored.shape)}, not a matrix for each of some experts")
    count, *shape = stored.shape
    for index in range(count):
        offset = stored.offset + index * stored.nbytes // count
        yield f"{at}.{expert.format(index)}.{kind}", replace(stored, shape=tuple(shape), offset=offset)


def _permuted_heads(
    architecture: GgufArchitecture, config: Mapping[str, Any], stem: str, stored: StoredTensor, where: str
) -> int:
    key = {"attn_q": "num_attention_heads", "attn_k": "num_key_value_heads"}.get(stem.rpartition(".")[2])
    if not architecture.permuted or key is None:
        return 0
    heads = config.get(key)
    if type(heads) is not int or heads < 1 or stored.shape[0] % (2 * heads):
        raise ZooError(
            f"{where}: {stored.name!r} has {stored.shape[0]} rows, which {heads!r:.20} heads ({key}) do not divide"
        )
    return heads
