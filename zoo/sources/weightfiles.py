"""Which files hold a checkpoint's weights: one, or shards, with an index or without; safetensors before ``.bin``."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from zoo.errors import ZooError
from zoo.sources import safetensors, torch_bin
from zoo.sources.buffers import is_buffer
from zoo.sources.bytereader import ByteReader, FileReader
from zoo.sources.safetensors import Header

CHOICES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
"""What transformers looks for, in its order."""
_SHARD = re.compile(r"(model|pytorch_model)-(\d{5})-of-(\d{5})\.(safetensors|bin)")


def choose(names: Collection[str]) -> str | None:
    """Choose the file to begin with: one of ``CHOICES``, or the first of a complete set of shards without an index.

    Returns:
        None where there is none, or more than one such set.
    """
    choice = next((choice for choice in CHOICES if choice in names), None)
    if choice is not None:
        return choice
    for kind in ("safetensors", "bin"):
        sets = [first for first in _first_shards(names, kind) if set(siblings(first)) <= set(names)]
        if sets:
            return sets[0] if len(sets) == 1 else None
    return None


def _first_shards(names: Collection[str], kind: str) -> list[str]:
    """Name the first shard of each set of which there is any."""
    shards = [shard for name in names if (shard := _SHARD.fullmatch(name)) and shard[4] == kind]
    return sorted({f"{shard[1]}-00001-of-{shard[3]}.{kind}" for shard in shards})


def siblings(choice: str) -> list[str]:
    """Name the files of weights of a choice that is not an index: itself, or the whole set of a first shard."""
    shard = _SHARD.fullmatch(choice)
    if shard is None:
        return [choice]
    return [f"{shard[1]}-{number:05d}-of-{shard[3]}.{shard[4]}" for number in range(1, int(shard[3]) + 1)]


def is_index(choice: str) -> bool:
    """Tell whether a chosen file is an index that names shards."""
    return choice.endswith(".index.json")


def is_pickled(choice: str) -> bool:
    """Tell whether a chosen file means PyTorch's ``.bin`` format."""
    return choice.startswith("pytorch_model")


def shards(index: Mapping[str, Any], choice: str) -> dict[str, set[str]]:
    """Map the files that an index names to the tensors they should hold.

    Raises:
        ZooError: the index is not one, or names a file outside the checkpoint.
    """
    weight_map = index.get("weight_map")
    if not isinstance(weight_map, dict) or not all(isinstance(file, str) for file in weight_map.values()):
        raise ZooError(f"{choice}: weight_map must map tensors to files")
    if not weight_map:
        raise ZooError(f"{choice}: weight_map is empty")
    wanted: dict[str, set[str]] = {}
    for tensor, file in weight_map.items():
        check_name(file, f"{choice}: ")
        wanted.setdefault(file, set()).add(tensor)
    return dict(sorted(wanted.items()))


def check_name(name: str, where: str = "") -> None:
    """Refuse a name that is absolute, climbs with ``..``, or that some system would not take.

    Raises:
        ZooError: it leads out of the folder.
    """
    pure = Path(name)
    if not name or "\0" in name or pure.is_absolute() or ".." in pure.parts or re.match(r"^[A-Za-z]:|.*\\", name):
        raise ZooError(f"{where}{name[:200]!r} is not the name of a file inside the folder")


def read_headers(
    choice: str, index: Mapping[str, Any], open_header: Callable[[str], Header]
) -> Iterator[tuple[str, Header]]:
    """Read the header of every file of weights, checked against the index where there is one.

    Args:
        choice: what ``choose`` chose.
        index: what it holds, if it is an index.
        open_header: reads the header of a file by its name.

    Raises:
        ZooError: a file holds other tensors than its index says.
    """
    if not is_index(choice):
        for file in siblings(choice):
            yield file, open_header(file)
        return
    wanted = shards(index, choice)
    for file, tensors in wanted.items():
        header = open_header(file)
        absent = sorted(name for name in tensors - header.tensors.keys() if not is_buffer(name))
        if absent:
            raise ZooError(f"{file}: tensor {absent[0]!r} is missing, {choice} says it is there{_more(absent)}")
        extra = sorted(name for name in header.tensors.keys() - tensors if not is_buffer(name))
        if extra:
            other = index["weight_map"].get(extra[0])
            says = f"says it is in {other}" if other else "does not name it"
            raise ZooError(f"{file}: tensor {extra[0]!r} is there, but {choice} {says}{_more(extra)}")
        yield file, header


def header_of(path: Path, file: str, choice: str) -> Header:
    """Read the header of a file on disk, in the format that ``choice`` means."""
    try:
        with path.open("rb") as opened:
            return header_from(FileReader(opened), file, choice)
    except OSError as error:
        raise ZooError(f"{file}: {error.strerror or error}") from None


def header_from(reader: ByteReader, file: str, choice: str, *, offsets: bool = True) -> Header:
    """Read a header from any source of bytes; ``offsets`` false spares a distant ``.bin`` many small reads."""
    if is_pickled(choice):
        return torch_bin.read_header(reader, file, offsets=offsets)
    return safetensors.read_header(reader, file)


def absence(names: Collection[str]) -> str:
    """Say why a folder or repository holds no weights that can be read."""
    named = sorted(names)
    for kind in ("safetensors", "bin"):
        firsts = _first_shards(named, kind)
        missing = [name for first in firsts for name in siblings(first) if name not in names]
        if len(firsts) == 1 and missing:
            return f"no index, and of its shards {missing[0]} is missing{_more(missing)}; fetch it again"
    if any(name.endswith(".safetensors") for name in named):
        return f"no {CHOICES[0]} and no {CHOICES[1]}, so which of its safetensors files belong together is not said"
    others = (".bin", ".pt", ".pth", ".gguf", ".h5", ".msgpack", ".onnx", ".ckpt")
    other = next((name for name in named if name.endswith(others)), None)
    if other:
        return f"its weights ({other}) are in no form that is read; it takes {CHOICES[0]}, {CHOICES[2]} or their index"
    return f"holds no weights: no {CHOICES[0]}, no {CHOICES[2]} and no index of shards"


def _more(names: list[str]) -> str:
    return f" (and {len(names) - 1} more)" if len(names) > 1 else ""
