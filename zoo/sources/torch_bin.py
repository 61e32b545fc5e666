"""PyTorch's ``.bin`` files: where each tensor lies, read without PyTorch and without running anything.

Since PyTorch 1.6 ``torch.save`` writes a zip archive whose members are stored, not compressed: ``*/data.pkl`` describes
the tensors, ``*/data/0``, ``*/data/1`` ... hold their bytes, ``*/byteorder`` says how. So a tensor is a run of bytes of
the file, and rows of it are read in place.

Sources: PyTorch's notes on serialization semantics; the zip format, APPNOTE.TXT 4.3 (local file headers), 4.4.
"""

from __future__ import annotations

import io
import math
import os
import re
import struct
import zipfile

from zoo.contracts import TensorInfo
from zoo.declarations.dtypes import BY_CODE
from zoo.errors import ZooError
from zoo.sources.bytereader import ByteReader
from zoo.sources.pointers import refuse_pointer
from zoo.sources.safetensors import Header
from zoo.sources.torch_bin_pickle import MAX_PICKLE, Tensor, describe

_MAX_DIRECTORY = 8 * 2**20
"""Bytes of the zip's table of contents; a tensor takes about a hundred."""
_INNER = ("state_dict", "model_state_dict", "model", "module", "params")
"""Names under which training programs keep the weights inside a larger dict."""


class _Stream(io.RawIOBase):
    """A source as the seekable stream that ``zipfile`` wants; no single read may be large."""

    def __init__(self, reader: ByteReader, label: str) -> None:
        self._reader = reader
        self._label = label
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._reader.size}[whence]
        if base + offset < 0:
            raise zipfile.BadZipFile("an offset before the beginning")
        self._at = base + offset
        return self._at

    def read(self, size: int = -1) -> bytes:
        left = max(self._reader.size - self._at, 0)
        size = left if size is None or size < 0 else min(size, left)
        if size > MAX_PICKLE:
            raise ZooError(f"{self._label}: a table of contents of {size} bytes, which no file of weights has")
        data = self._reader.read_at(self._at, size)
        self._at += len(data)
        return data


def read_header(reader: ByteReader, label: str, *, offsets: bool = True) -> Header:
    """Read the header of a ``.bin`` archive from any source of bytes.

    Args:
        reader: the archive.
        label: its name in messages.
        offsets: look up where the tensors begin, which takes a small read for each; without, ``offsets`` stays empty.
    """
    _check_kind(reader, label)
    try:
        with zipfile.ZipFile(_Stream(reader, label)) as archive:
            if archive.start_dir < 0 or reader.size - archive.start_dir > _MAX_DIRECTORY:
                raise ZooError(f"{label}: a table of contents that no file of weights has; it is damaged")
            members = _members(archive, label)
            pickled = _small(archive, members, "data.pkl", MAX_PICKLE, label)
            order = _small(archive, members, "byteorder", 16, label) if "byteorder" in members else b"little"
            end = archive.start_dir
    except (zipfile.BadZipFile, NotImplementedError, EOFError, struct.error, UnicodeDecodeError, ValueError) as error:
        raise ZooError(f"{label}: truncated or damaged ({_first_line(error)}); fetch it again") from None
    if order.strip() != b"little":
        raise ZooError(
            f"{label}: written on a big-endian machine, which is not read; save it again on a little-endian one"
        )
    tensors = _tensors(describe(pickled, label), label)
    begins = _begins(reader, members, end, label) if offsets else {}
    header = Header({}, {}, _identity(pickled, members), reader.size)
    for name, tensor in tensors.items():
        member = members.get(f"data/{tensor.storage.key}")
        info = _check_tensor(name, tensor, member.file_size if member else None, label)
        header.tensors[name] = info
        item = BY_CODE[tensor.dtype].nbytes
        if offsets:
            header.offsets[name] = begins[f"data/{tensor.storage.key}"] + tensor.offset * item
        if not _row_major(tensor):
            header.strides[name] = tensor.strides
    return header


def _check_kind(reader: ByteReader, label: str) -> None:
    """Tell what it is if it is not a zip archive."""
    if reader.size == 0:
        raise ZooError(f"{label}: empty; fetch it again")
    head = reader.read_at(0, 64)
    if head[:4] == b"PK\x03\x04":
        return
    refuse_pointer(head, label)
    if head[:1] == b"\x80" or b"ustar" in reader.read_at(257, 8):
        raise ZooError(
            f"{label}: written in PyTorch's format from before 1.6, which cannot be read in place; if you trust it, "
            f"convert it: {_command(label, '')}"
        )
    raise ZooError(f"{label}: not a PyTorch file (it begins with {head[:4].hex(' ')}); fetch it again")


def _members(archive: zipfile.ZipFile, label: str) -> dict[str, zipfile.ZipInfo]:
    """Map names inside the archive's one folder to its members."""
    infos = archive.infolist()
    roots = [info.filename.removesuffix("data.pkl") for info in infos if info.filename.split("/")[-1] == "data.pkl"]
    if len(roots) != 1 or roots[0].count("/") > 1:
        raise ZooError(f"{label}: not a file that torch.save wrote (it holds {len(roots)} data.pkl); fetch it again")
    root = roots[0]
    members: dict[str, zipfile.ZipInfo] = {}
    for info in infos:
        name = info.filename.removeprefix(root)
        if name in members:
            raise ZooError(f"{label}: holds {info.filename[:120]!r} twice; it is damaged")
        if info.flag_bits & 1:
            raise ZooError(f"{label}: {info.filename[:120]!r} is encrypted, which is not read")
        if info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size:
            raise ZooError(
                f"{label}: {info.filename[:120]!r} is compressed, which torch.save never does; save it again"
            )
        members[name] = info
    if "constants.pkl" in members:
        raise ZooError(f"{label}: a TorchScript program, not weights; get the weights as safetensors")
    return members


def _small(archive: zipfile.ZipFile, members: dict[str, zipfile.ZipInfo], name: str, limit: int, label: str) -> bytes:
    if members[name].file_size > limit:
        raise ZooError(f"{label}: {name} of {members[name].file_size} bytes, more than {limit}, which none has")
    with archive.open(members[name]) as file:
        return file.read(limit + 1)


def _tensors(value: object, label: str) -> dict[str, Tensor]:
    """Check that the archive holds a flat dict of named tensors."""
    if not isinstance(value, dict):
        raise ZooError(f"{label}: holds a {type(value).__name__.lower()}, not a dict of named tensors")
    for name in _INNER:
        if isinstance(value.get(name), dict):
            raise ZooError(
                f"{label}: keeps its weights one level down, under {name!r}; save that level alone: "
                + _command(label, f"['{name}']")
            )
    for name, tensor in value.items():
        if not isinstance(name, str):
            raise ZooError(f"{label}: holds something named {name}, which is not text; save the state dict alone")
        if not isinstance(tensor, Tensor):
            kind = type(tensor).__name__.lower()
            raise ZooError(f"{label}: {name[:200]!r} is a {kind}, not a tensor; save the state dict of the model alone")
    return value


def _check_tensor(name: str, tensor: Tensor, stored: int | None, label: str) -> TensorInfo:
    """Check that a tensor lies inside its storage."""
    where, storage = f"{label}: tensor {name[:200]!r}", tensor.storage
    if stored is None:
        raise ZooError(f"{where}: its bytes (data/{storage.key[:40]}) are missing; the file is damaged, fetch it again")
    item = BY_CODE[tensor.dtype].nbytes
    if storage.numel * BY_CODE[storage.dtype].nbytes != stored:
        raise ZooError(
            f"{where}: its storage should have {storage.numel} values, it has {stored} bytes; the file is damaged"
        )
    count = math.prod(tensor.shape)
    last = tensor.offset + sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.strides, strict=True))
    if count and (last + 1) * item > stored:
        raise ZooError(f"{where}: reaches to byte {(last + 1) * item} of {stored}; the file is damaged")
    return TensorInfo(name=name, dtype=tensor.dtype, shape=tensor.shape, nbytes=count * item, file=label)


def _row_major(tensor: Tensor) -> bool:
    """Tell whether rows follow each other without gaps; the stride of an axis of one does not matter."""
    step = 1
    for size, stride in zip(reversed(tensor.shape), reversed(tensor.strides), strict=True):
        if size != 1 and stride != step:
            return math.prod(tensor.shape) == 0
        step *= size
    return True


def _begins(reader: ByteReader, members: dict[str, zipfile.ZipInfo], end: int, label: str) -> dict[str, int]:
    """Find where each storage begins: behind its local header, whose length only it knows.

    Raises:
        ZooError: a storage runs into another one, or out of the archive.
    """
    begins, at, before = {}, 0, "the beginning"
    for name, info in sorted(members.items(), key=lambda item: item[1].header_offset):
        local = reader.read_at(info.header_offset, 30) if info.header_offset >= at else b""
        if len(local) < 30 or local[:4] != b"PK\x03\x04":
            raise ZooError(f"{label}: {name[:120]!r} does not follow {before[:120]!r}; the file is damaged")
        name_length, extra_length = struct.unpack("<HH", local[26:30])
        begin = info.header_offset + 30 + name_length + extra_length
        at, before = begin + info.file_size, name
        if at > end:
            raise ZooError(f"{label}: {name[:120]!r} reaches past the end; the file is truncated, fetch it again")
        begins[name] = begin
    return begins


def _identity(pickled: bytes, members: dict[str, zipfile.ZipInfo]) -> bytes:
    """Say what the file holds, for a fingerprint: the description, and each storage's size and check sum."""
    lines = [
        f"{name} {info.file_size} {info.CRC:08x}\n" for name, info in sorted(members.items()) if name[:5] == "data/"
    ]
    return pickled + "".join(lines).encode()


def _command(label: str, level: str) -> str:
    """Write the command that saves a file again as it should be."""
    # The name comes from outside: nothing that a shell or Python would act on goes into a command to copy.
    name = label if re.fullmatch(r"[\w.-]+", label) else "FILE"
    return f"python -c \"import torch; f='{name}'; torch.save(torch.load(f, weights_only=True){level}, f)\""


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:120]
