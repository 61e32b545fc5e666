"""A GGUF file, or the parts of one, as a checkpoint: headers at once, weights dequantized by the slab."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo import (
    BlockScheme,
    BlockTile,
    FileHeader,
    FileReader,
    HubFiles,
    Stamp,
    TensorInfo,
    TransformPin,
    WeightFiles,
    ZooError,
    companion_hashes,
    content_digest,
    sampled_digest,
)
from zoo_gguf import encoders, tokenizer
from zoo_gguf.blocks import SCHEMES, tile_of
from zoo_gguf.config import find_architecture, make_config
from zoo_gguf.header import GgufHeader, read_header
from zoo_gguf.tensors import PLAIN, Tensor, decode, in_halves, joined, make_tensors

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class GgufCheckpoint:
    """An opened file or set of parts (the ``Checkpoint`` protocol).

    Args:
        name: a label.
        headers: of each part, by its file's name, the first one first.
        paths: where each part is, or will be.
        hub: where they come from, if from a repository.
    """

    transforms: tuple[TransformPin, ...] = ()
    folder: Path | None = None

    def __init__(
        self, name: str, headers: Mapping[str, GgufHeader], paths: Mapping[str, Path], hub: HubFiles | None = None
    ) -> None:
        self.name, self._headers, self._paths, self._hub = name, headers, paths, hub
        self._files = WeightFiles({file: header.file_size for file, header in headers.items()}, dict(paths))
        self.metadata = next(iter(headers.values())).metadata
        _check_parts(name, headers)
        stored = {tensor.name: tensor for header in headers.values() for tensor in header.tensors.values()}
        self.config: dict[str, Any] = make_config(self.metadata, stored, self._rope_factors, name)
        _, architecture = find_architecture(self.metadata, stored, name)
        parts = {file: header.tensors for file, header in headers.items()}
        self._tensors = make_tensors(architecture, self.config, parts, name)
        self.tensors: dict[str, TensorInfo] = {key: tensor.info for key, tensor in self._tensors.items()}

    @cached_property
    def digest(self) -> str:
        """Name the content: the hub's checksums, or the headers and samples of the tensors."""
        return content_digest(companion_hashes(self), self.checksums, self._described)

    def _described(self) -> list[Any]:
        sizes = {
            file: [header.file_size, hashlib.sha256(header.raw).hexdigest()] for file, header in self._headers.items()
        }
        if not self._is_here:
            return [sizes]
        stored = {file: _file_header(file, header) for file, header in self._headers.items()}
        return [sizes, sampled_digest(self._paths, stored)]

    @cached_property
    def checksums(self) -> Mapping[str, str]:
        """SHA-256 of each file, where the hub states it."""
        return self._hub.checksums() if self._hub is not None else {}

    @property
    def revision(self) -> str | None:
        """The commit, where it comes from the hub."""
        return self._hub.commit if self._hub is not None else None

    @cached_property
    def download_bytes(self) -> int:
        """What ``bring`` will fetch."""
        return self._hub.missing_bytes if self._hub is not None else 0

    def read(self, name: str, start: int, stop: int, out: NDArray[np.uint8] | None = None) -> NDArray[Any]:
        """Read rows of a tensor; quantized ones as float32."""
        tensor = self._tensors[name]
        if tensor.parts:
            return joined([self._values(*part) for part in tensor.within(start, stop)], tensor, out)
        if len(tensor.info.shape) > 1:
            return decode(self._rows(tensor, start, stop), tensor, out)
        values = decode(self._raw(tensor, 0, 1), tensor, None)[0]
        values = (in_halves(values, tensor.heads) if tensor.heads else values)[start:stop]
        if out is None:
            return values
        into = out[: values.nbytes].view(values.dtype)
        into[...] = values
        return into

    def block_scheme(self, name: str) -> BlockScheme | None:
        """Say which integer blocks a tensor is stored in; None where none of ours are like them."""
        tensor = self._tensors[name]
        alike = all(part.stored.kind == tensor.stored.kind and not part.turned for part, _, _ in tensor.parts)
        return SCHEMES.get(tensor.stored.kind) if alike and len(tensor.info.shape) > 1 else None

    def stored_type(self, name: str) -> str | None:
        """Name the type of a quantized tensor."""
        kind = self._tensors[name].stored.kind
        return None if kind in PLAIN else kind

    def read_blocks(self, name: str, start: int, stop: int) -> BlockTile:
        """Read the blocks of rows as they are stored."""
        import numpy as np

        tensor = self._tensors[name]
        rows = [self._rows(*part) for part in tensor.within(start, stop)]
        return tile_of(rows[0] if len(rows) == 1 else np.concatenate(rows), tensor.stored.kind, start)

    def _values(self, tensor: Tensor, start: int, stop: int) -> NDArray[Any]:
        """Read rows of a matrix."""
        if tensor.turned:
            return decode(self._raw(tensor, 0, tensor.stored.shape[0]), tensor, None).T[start:stop]
        return decode(self._rows(tensor, start, stop), tensor, None)

    def _rows(self, tensor: Tensor, start: int, stop: int) -> NDArray[np.uint8]:
        """Read rows of a matrix in transformers' order, as they are stored: (rows, bytes of a row)."""
        if not tensor.heads:
            return self._raw(tensor, start, stop)
        import numpy as np

        size = tensor.stored.shape[0] // tensor.heads
        first, last = start // size, -(-stop // size)
        whole = in_halves(self._raw(tensor, first * size, last * size), last - first)
        return np.ascontiguousarray(whole[start - first * size : stop - first * size])

    def _raw(self, tensor: Tensor, start: int, stop: int) -> NDArray[np.uint8]:
        """Read rows as they lie in the file."""
        import numpy as np

        if not self._is_here:
            raise ZooError(f"{self.name}: its weights are not on this machine; fetch them first")
        stored = tensor.stored
        raw = np.empty((stop - start, stored.row_bytes), np.uint8)
        if raw.size:
            self._files.read_into(tensor.info.file, stored.offset + start * stored.row_bytes, raw.reshape(-1).data)
        return raw

    def _rope_factors(self, table: str) -> list[float] | None:
        for file, header in self._headers.items():
            stored = header.tensors.get(f"{table}.weight")
            if stored is None:
                continue
            if stored.kind != "F32" or len(stored.shape) != 1 or stored.shape[0] > 2**16:
                raise ZooError(f"{self.name}: {table}.weight is not a list of F32 numbers")
            import numpy as np

            if self._is_here:
                raw = np.empty(stored.nbytes, np.uint8)
                self._files.read_into(file, stored.offset, raw.data)
            else:
                assert self._hub is not None
                raw = np.frombuffer(self._hub.reader(file).read_at(stored.offset, stored.nbytes), np.uint8)
            return [float(value) for value in raw.view("<f4")]
        return None

    @cached_property
    def _is_here(self) -> bool:
        return self._hub is None or self._hub.is_here

    @cached_property
    def _companions(self) -> dict[str, bytes]:
        config = json.dumps(self.config, indent=2).encode()
        pooling = encoders.pooling_files(self.metadata, self.name)
        return {"config.json": config, **tokenizer.companions(self.metadata, self.name), **pooling}

    def companion(self, name: str) -> bytes | None:
        """Read a file that the metadata amounts to, or None; ``README.md`` states the licence."""
        if name == "README.md":
            page = self._hub.page() if self._hub is not None else None
            licence = self.metadata.get("general.license")
            stated = f"---\nlicense: {licence}\n---\n".encode() if isinstance(licence, str) else None
            return page or stated
        return self._companions.get(name)

    def companions(self) -> tuple[str, ...]:
        """Name the files that the metadata amounts to, sorted."""
        return tuple(sorted(self._companions))

    def stamps(self) -> dict[str, Stamp]:
        """Stamp every part."""
        if not self._is_here:
            return {file: (0, 0, header.file_size, 0, 0) for file, header in self._headers.items()}
        return self._files.stamps()

    def bring(self, progress: Callable[[Any], None] | None = None) -> GgufCheckpoint:
        """Fetch the files, and open them where they are now."""
        if self._is_here:
            return self
        assert self._hub is not None
        self._hub.bring(progress)
        return GgufCheckpoint(self.name, open_headers(self._paths), self._paths, self._hub)

    def close(self) -> None:
        """Close the files; reading opens them again."""
        self._files.close()


def open_headers(paths: Mapping[str, Path]) -> dict[str, GgufHeader]:
    """Read the headers of files on this machine.

    Raises:
        ZooError: one cannot be read, or is not what it must be.
    """
    headers = {}
    for file, path in paths.items():
        try:
            with path.open("rb") as opened:
                headers[file] = read_header(FileReader(opened), file)
        except OSError as error:
            raise ZooError(f"{file}: {error.strerror or error}") from None
    return headers


def _check_parts(name: str, headers: Mapping[str, GgufHeader]) -> None:
    """Hold what the parts of a set say against each other.

    Raises:
        ZooError: they are not the parts of one set, or one tensor is in two of them.
    """
    seen: dict[str, str] = {}
    for index, (file, header) in enumerate(headers.items()):
        count, number = header.metadata.get("split.count", 1), header.metadata.get("split.no", 0)
        if count != len(headers) and not (count == 0 and len(headers) == 1):
            raise ZooError(f"{file}: says that it is one of {count!r:.20} parts, but {len(headers)} are there")
        if number != index:
            raise ZooError(f"{file}: says that it is part {number!r:.20} (from 0), but its name says {index}")
        for tensor in header.tensors:
            if tensor in seen:
                raise ZooError(f"{name}: tensor {tensor!r} is in {seen[tensor]} and in {file}")
            seen[tensor] = file
    first = next(iter(headers.values()))
    total = first.metadata.get("split.tensors.count", len(seen))
    if total != len(seen):
        raise ZooError(f"{name}: states {total!r:.20} tensors in all parts, which hold {len(seen)}")


def _file_header(file: str, header: GgufHeader) -> FileHeader:
    """Describe a file as sampling needs it: what lies where."""
    infos = {
        tensor.name: TensorInfo(tensor.name, tensor.kind, tensor.shape, tensor.nbytes, file)
        for tensor in header.tensors.values()
    }
    offsets = {tensor.name: tensor.offset for tensor in header.tensors.values()}
    return FileHeader(infos, offsets, header.raw, header.file_size)
