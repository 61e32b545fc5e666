"""The tensors of a GGUF file under transformers' names, as the rows of what the file stores."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Any

from zoo import TensorInfo, ZooError, widened
from zoo_gguf.architectures import GgufArchitecture, Joined
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
    turned: bool = False
    """Its columns are the rows of ``info``."""
    parts: tuple[tuple[Tensor, int, int], ...] = ()
    """What it is joined of: rows of others (from, to) in turn; ``stored`` is then the first of them."""

    def within(self, start: int, stop: int) -> Iterator[tuple[Tensor, int, int]]:
        """Name the rows of parts that its rows ``start`` to ``stop`` are."""
        at = 0
        for part, first, last in self.parts or ((self, 0, stop),):
            low, high = max(first, first + start - at), min(last, first + stop - at)
            if low < high:
                yield part, low, high
            at += last - first


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
    waiting: dict[tuple[str, str], dict[str, Tensor]] = {}
    for file, listed in files.items():
        for stored in listed.values():
            stem, _, kind = stored.name.rpartition(".")
            if _SPECIAL.fullmatch(stem):
                continue
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
                tensors[name] = Tensor(_info(name, piece, file), piece, heads, offset)
            layer, _, short = stem.rpartition(".")
            if kind == "weight" and (whole := _whole_of(architecture, short)):
                waiting.setdefault((layer, whole), {})[short] = tensors.pop(stored.name)
    table = tensors.get(architecture.outside.get("position_embd", "") + ".weight")
    if table is not None and architecture.behind_padding:
        tensors[table.info.name] = _behind_padding(table, config["pad_token_id"] + 1, where)
    for (layer, whole), parts in waiting.items():
        tensor = _join(architecture.joined[whole], config, f"{layer}.", parts, where)
        name = f"{architecture.layers}.{layer.rpartition('.')[2]}.{whole}.weight"
        tensors[name] = replace(tensor, info=replace(tensor.info, name=name))
    return tensors


def _info(name: str, stored: StoredTensor, file: str) -> TensorInfo:
    nbytes = stored.nbytes if stored.kind in PLAIN else 4 * math.prod(stored.shape)
    return TensorInfo(name, PLAIN.get(stored.kind, "F32"), stored.shape, nbytes, file)


def _whole_of(architecture: GgufArchitecture, short: str) -> str | None:
    """Say what a tensor of a layer is a part of."""
    return next((name for name, one in architecture.joined.items() if short in one.parts), None)


def _join(joined: Joined, config: Mapping[str, Any], layer: str, parts: Mapping[str, Tensor], where: str) -> Tensor:
    """Join tensors of a layer, the rows of each group in turn."""
    lacking = [f"{layer}{short}.weight" for short in joined.parts if short not in parts]
    if lacking:
        raise ZooError(f"{where}: {lacking[0]!r} is missing, without which {layer}{min(parts)} means nothing")
    groups = config.get(joined.groups) if joined.groups else 1
    pieces: list[list[tuple[Tensor, int, int]]] = []
    for short in joined.parts:
        tensor, shape = parts[short], parts[short].stored.shape
        count, turned = math.prod(shape[:-1]), short == joined.turned
        fits = type(groups) is int and groups > 0 and count % groups == 0 and len(shape) > 1
        if not fits or (turned and (len(shape) != 3 or shape[0] != groups)):
            raise ZooError(f"{where}: {tensor.stored.name!r} is {list(shape)}, not rows for {groups!r:.20} groups")
        assert isinstance(groups, int)
        if turned:
            pieces.append([(_turned(tensor, group), 0, shape[2]) for group in range(groups)])
        else:
            each = count // groups
            pieces.append([(tensor, group * each, (group + 1) * each) for group in range(groups)])
    listed = tuple(piece for group in zip(*pieces, strict=True) for piece in group)
    widths = {part.info.shape[-1] for part, _, _ in listed}
    if len(widths) > 1:
        raise ZooError(f"{where}: the rows of {' and '.join(parts)} in {layer[:-1]} have {sorted(widths)} columns")
    kinds = {part.info.dtype for part, _, _ in listed}
    dtype, rows = kinds.pop() if len(kinds) == 1 else "F32", sum(last - first for _, first, last in listed)
    shape = rows, widths.pop()
    info = replace(listed[0][0].info, dtype=dtype, shape=shape, nbytes=math.prod(shape) * (4 if dtype == "F32" else 2))
    return Tensor(info, listed[0][0].stored, parts=listed)


def _behind_padding(table: Tensor, first: int, where: str) -> Tensor:
    """Put the rows before that of a text's first token, which are never read, back: any will do."""
    rows = table.info.shape[0]
    if len(table.info.shape) != 2 or rows < first:
        raise ZooError(f"{where}: {table.stored.name!r} is {list(table.info.shape)}, not a table of positions")
    shape, nbytes = (rows + first, table.info.shape[1]), table.info.nbytes // rows * (rows + first)
    info = replace(table.info, shape=shape, nbytes=nbytes)
    return replace(table, info=info, parts=((table, 0, first), (table, 0, rows)))


def _turned(tensor: Tensor, group: int) -> Tensor:
    """Take a group's matrix, whose columns are the rows that are wanted."""
    count, *shape = tensor.stored.shape
    at = tensor.stored.offset + group * (tensor.stored.nbytes // count)
    return Tensor(
        replace(tensor.info, shape=(shape[1], shape[0])),
        replace(tensor.stored, shape=tuple(shape), offset=at),
        turned=True,
    )


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
    return _into(out, values)


def joined(pieces: Sequence[NDArray[Any]], tensor: Tensor, out: NDArray[np.uint8] | None) -> NDArray[Any]:
    """Put rows of parts one behind the other; those of several types as float32."""
    import numpy as np

    if len({part.info.dtype for part, _, _ in tensor.parts}) > 1:
        pieces = [widened(piece, "bfloat16" if piece.dtype == np.uint16 else "float32") for piece in pieces]
    return _into(out, np.concatenate(pieces))


def _into(out: NDArray[np.uint8] | None, values: NDArray[Any]) -> NDArray[Any]:
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
        yield f"{architecture.outside.get(stem, stem)}.{kind}" if stem else stored.name, stored
        return
    at, expert = f"{architecture.layers}.{int(layer[1])}", architecture.experts.get(layer[2])
    if expert is None:
        name, ending = architecture.layer.get(layer[2]), architecture.layer.get(f"{layer[2]}.{kind}")
        yield f"{at}.{ending}" if ending else f"{at}.{name}.{kind}" if name else stored.name, stored
        return
    axes, what = (2, "norm for each of some heads") if stem.endswith("norm") else (3, "matrix for each of some experts")
    if len(stored.shape) != axes or stored.shape[0] > MAX_EXPERTS:
        raise ZooError(f"{where}: {stored.name!r} is {list(stored.shape)}, not a {what}")
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
