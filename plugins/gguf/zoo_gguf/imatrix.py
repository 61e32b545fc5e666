"""llama.cpp's importance matrices: the mean square of every input of every linear, as its ``llama-imatrix`` writes it.

- GGUF (``general.type`` is ``imatrix``): ``NAME.in_sum2`` F32 (matrices, columns) and ``NAME.counts`` (matrices, 1).
- Before that, ``.dat``, little-endian: the number of entries; for each the length of its name, the name, its calls,
  its values, and as many float32, the mean times the calls. What follows says how many chunks of which text.

Source: llama.cpp, ``tools/imatrix/imatrix.cpp`` (``save_imatrix``, ``save_imatrix_legacy``) and ``tools/quantize``.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from zoo import FileReader, ZooError
from zoo_gguf.header import MAX_NAME, read_header

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MAX_SIZE = 512 * 2**20
"""Bytes of a file; a mixture of 128 experts in 48 layers takes about 130 MiB."""


def read_imatrix(path: Path) -> dict[str, NDArray[np.float32]]:
    """Read the importance of every column, by the name of llama.cpp's tensor; experts of a layer by their mean.

    What was never reached has no entry.

    Raises:
        ZooError: it cannot be read, is neither form, or holds what no mean square is.
    """
    import numpy as np

    label = path.name
    try:
        if path.stat().st_size > MAX_SIZE:
            raise ZooError(f"{label}: more than {MAX_SIZE >> 20} MiB, which no imatrix has")
        raw = path.read_bytes()
    except OSError as error:
        raise ZooError(f"{label}: {error.strerror or error}") from None
    values = dict(_gguf(path, raw) if raw[:4] == b"GGUF" else _dat(raw, label))
    for name, mean in values.items():
        if not np.isfinite(mean).all() or (mean < 0).any():
            raise ZooError(f"{label}: {name!r} holds NaN, infinite or negative values; the file is damaged")
    return {name: mean for name, mean in values.items() if mean.any()}


def _gguf(path: Path, raw: bytes) -> Iterator[tuple[str, NDArray[np.float32]]]:
    import numpy as np

    with path.open("rb") as file:
        header = read_header(FileReader(file), path.name)
    if header.metadata.get("general.type") != "imatrix":
        raise ZooError(f"{path.name}: a GGUF file, but not an imatrix")
    for name, sums in header.tensors.items():
        stem, _, part = name.rpartition(".")
        counts = header.tensors.get(f"{stem}.counts")
        if part != "in_sum2":
            continue
        if counts is None or {sums.kind, counts.kind} != {"F32"} or len(sums.shape) != 2 or len(counts.shape) != 2:
            raise ZooError(f"{path.name}: {name!r} is not F32 of two dimensions with counts beside it")
        if counts.shape != (sums.shape[0], 1):
            raise ZooError(f"{path.name}: {name!r} is {list(sums.shape)}, but its counts {list(counts.shape)}")
        total, seen = (
            np.frombuffer(raw, "<f4", one.nbytes // 4, one.offset).reshape(one.shape) for one in (sums, counts)
        )
        with np.errstate(all="ignore"):
            yield stem, (total.sum(0) / max(1.0, float(seen.sum()))).astype(np.float32)


def _dat(raw: bytes, label: str) -> Iterator[tuple[str, NDArray[np.float32]]]:
    import numpy as np

    at = 0

    def take(size: int) -> int:
        nonlocal at
        if size < 0 or at + size > len(raw):
            raise ZooError(f"{label}: not an imatrix, or truncated at byte {at}")
        at += size
        return at - size

    def number() -> int:
        value: int = struct.unpack_from("<i", raw, take(4))[0]
        return value

    for _ in range(number()):
        length = number()
        if not 0 < length <= MAX_NAME:
            raise ZooError(f"{label}: not an imatrix: a name of {length} bytes")
        name = raw[take(length) : at].decode("utf-8", "replace")
        calls, count = number(), number()
        values = np.frombuffer(raw, "<f4", max(0, count), take(4 * count))
        yield name, values / np.float32(max(1, calls))


def importance(values: Mapping[str, NDArray[np.float32]], names: list[str]) -> NDArray[np.float32] | None:
    """Average the entries of linears that share their inputs; None where there is none, or they differ in length."""
    import numpy as np

    held = [values[name] for name in dict.fromkeys(names) if name in values]
    return None if not held or len({len(one) for one in held}) > 1 else np.mean(held, axis=0, dtype=np.float32)
