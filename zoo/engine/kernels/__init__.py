"""Matrix products of our own for ONNX Runtime, where the processor has AVX-512 VNNI.

``MatMulNBits`` is onnxruntime's operator for weights in blocks. It rearranges every matrix when a package is opened,
into memory of its own. The kernels here read the weights as the package stores them, mapped from its file: opening
takes no time, a package larger than memory runs, and a token's result does not depend on the tokens beside it, to the
bit. They are compiled when zoo is installed (``operator.cpp``, ``products.h``) and registered under the operator's own
name, so that a package stays one that onnxruntime opens alone.

Measured beside onnxruntime's on two cores of a Zen 4: see docs/benchmarks.md.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.errors import UsageError

if TYPE_CHECKING:
    from zoo.declarations.manifest import Manifest

WHEN = "ZOO_KERNELS"
"""Environment: ``auto`` uses the kernels where they are compiled and the processor has the instructions, ``never`` uses
onnxruntime's."""

DONTNEED = 4
"""``MADV_DONTNEED`` (madvise(2)): of a file's pages, read them again when they are wanted."""


def library() -> Path | None:
    """Find the compiled kernels; None where there are none, the processor lacks their instructions, or none are wanted.

    Raises:
        UsageError: the environment says something else than ``auto`` or ``never``.
    """
    wanted = os.environ.get(WHEN, "auto")
    if wanted not in ("auto", "never"):
        raise UsageError(f"{WHEN} is auto or never, not {wanted[:40]!r}")
    return None if wanted == "never" else _usable()


@cache
def _usable() -> Path | None:
    path = next((path for path in Path(__file__).parent.glob("_library.*") if path.suffix != ".cpp"), None)
    try:
        return path if path is not None and ctypes.CDLL(str(path)).zoo_kernels_supported() else None
    except (OSError, AttributeError):  # compiled for another system, or from other sources
        return None


def reads_as_stored(manifest: Manifest) -> bool:
    """Tell whether all of a package's matrices are read as they are stored, so that none is rearranged in memory.

    Weights that stay floats, and those of experts, are onnxruntime's own products.
    """
    recipe = manifest.recipe
    experts = recipe.architecture is not None and getattr(recipe.architecture, "num_experts", None) is not None
    return library() is not None and not recipe.precision.startswith("fp") and not experts


def register(options: Any) -> None:
    """Have sessions with these options use the kernels, where there are some."""
    if (path := library()) is not None:
        options.register_custom_ops_library(str(path))


def move_weights(data: Path) -> None:
    """Copy the weights of open sessions into huge pages, scales in 16 bits where that is exact.

    A step of generation reads them faster from there (``zoo.engine.huge_pages``). Steps go on meanwhile.

    Args:
        data: the file that the weights were mapped from; the pages of it that are no longer needed are given back.
    """
    if (path := library()) is None:
        return
    ctypes.CDLL(str(path)).zoo_kernels_move()
    madvise = ctypes.CDLL(None).madvise
    for start, stop in unchanged(Path("/proc/self/smaps").read_text(), str(data.resolve())):
        madvise(ctypes.c_void_p(start), ctypes.c_size_t(stop - start), DONTNEED)


def unchanged(maps: str, file: str) -> Iterator[tuple[int, int]]:
    """Find where a file is mapped and nothing was written, (start, stop), in ``/proc/self/smaps`` (proc(5))."""
    start = stop = 0
    for line in maps.splitlines():
        first, *fields = line.split(maxsplit=5)
        if "-" in first and not first.endswith(":"):
            start, stop = (int(part, 16) for part in first.split("-")) if fields[4:] == [file] else (0, 0)
        elif first == "Anonymous:" and fields[0] == "0" and start < stop:
            yield start, stop
