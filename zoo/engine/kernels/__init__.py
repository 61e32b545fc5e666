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
import sysconfig
from collections.abc import Callable, Iterator
from functools import cache
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.engine.smaps import mappings, read_smaps
from zoo.errors import UsageError

if TYPE_CHECKING:
    from zoo.declarations.manifest import Manifest

WHEN = "ZOO_KERNELS"
"""Environment: ``auto`` uses the kernels where they are compiled and the processor has the instructions, ``never`` uses
onnxruntime's."""


def library() -> Path | None:
    """Find the compiled kernels; None if they were not compiled, cannot run on this processor, or are switched off.

    Raises:
        UsageError: the environment says something else than ``auto`` or ``never``.
    """
    wanted = os.environ.get(WHEN, "auto")
    if wanted not in ("auto", "never"):
        raise UsageError(f"{WHEN} is auto or never, not {wanted[:40]!r}")
    return None if wanted == "never" else _usable()


@cache
def _usable() -> Path | None:
    path = Path(__file__).with_name(f"_library{sysconfig.get_config_var('EXT_SUFFIX')}")
    try:
        return path if _load(path).zoo_kernels_supported() else None
    except (OSError, AttributeError):  # not compiled, for another system, or from other sources
        return None


@cache
def _load(path: Path) -> ctypes.CDLL:
    library = ctypes.CDLL(str(path))
    library.zoo_kernels_registered.restype = ctypes.c_int64
    library.zoo_kernels_move.argtypes = [ctypes.c_int64, ctypes.c_void_p, ctypes.c_size_t]
    return library


def reads_as_stored(manifest: Manifest) -> bool:
    """Tell whether all of a package's matrices are read as they are stored, so that none is rearranged in memory.

    Weights that stay floats, and those of experts, are onnxruntime's own products.
    """
    recipe = manifest.recipe
    experts = recipe.architecture is not None and recipe.architecture.num_experts is not None
    rounded = recipe.target.options.get("accuracy_level", 4) == 4
    return library() is not None and rounded and not recipe.precision.startswith("fp") and not experts


def register(options: Any) -> int:
    """Have a session with these options use the kernels; return its number among those that do, 0 without kernels."""
    if (path := library()) is None:
        return 0
    options.register_custom_ops_library(str(path))
    return int(_load(path).zoo_kernels_registered())


def move_weights(number: int, data: Path, enough: Callable[[], bool] = lambda: True) -> None:
    """Copy a session's weights into huge pages, scales in 16 bits where that is exact.

    A step of generation reads them faster from there (``zoo.engine.huge_pages``). Steps go on meanwhile.

    Args:
        number: the session's, from ``register``; it has to stay open until this returns.
        data: the file that the weights were mapped from; pages of it that are no longer read leave this process.
        enough: asked before each matrix whether there is still memory.
    """
    if not number or (path := library()) is None:
        return
    mapped = list(unchanged(read_smaps(), str(data.resolve())))
    spans = (ctypes.c_size_t * (2 * len(mapped)))(*chain.from_iterable(mapped))
    while enough() and _load(path).zoo_kernels_move(number, spans, len(mapped)):
        pass


def unchanged(maps: str, file: str) -> Iterator[tuple[int, int]]:
    """Find where a file is mapped and no page was written to, (start, stop), in the text of ``/proc/self/smaps``."""
    for mapping in mappings(maps):
        if mapping.path == file and mapping.sizes.get("Anonymous") == 0 == mapping.sizes.get("Swap"):
            yield mapping.start, mapping.stop
