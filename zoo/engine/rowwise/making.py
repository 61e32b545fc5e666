"""Make the row-wise graph beside a package's prepared weights, try it, and remember what came out."""

from __future__ import annotations

import json
import os
import tempfile
import time
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo.engine.machine import free_memory
from zoo.engine.prepack import store
from zoo.engine.prepack.making import external_tensors, locate, next_page, one_product, place, prepacked
from zoo.engine.rowwise.rewrite import Product, constants, per_channel, product_node, products, rewrite
from zoo.engine.rowwise.trial import Trial, run_trial
from zoo.errors import ZooError

if TYPE_CHECKING:
    from zoo.declarations.storage import ArrayLayout
    from zoo.package.folder import Package

GRAPH, DATA, MARKER = "rowwise.onnx", "rowwise.data", "rowwise.json"
WHEN = "ZOO_ROWWISE"
"""Environment: ``auto`` sends long prompts this way where a trial was won, ``always`` where it is only faster, and
``never`` leaves them to the kernels of all other steps."""
ATTEMPTS = None, "down_proj"
"""What is left out: at first nothing; then the products whose inputs, products themselves, have the longest tails."""


@dataclass(frozen=True, slots=True)
class _Record:
    """What the marker says."""

    trials: tuple[Trial, ...] = ()
    """One for each attempt that was made; none where there was no room for any."""
    kept: int | None = None
    """Of which attempt the graph is there."""
    sizes: dict[str, int] = field(default_factory=dict)

    def wanted(self, when: str) -> int | None:
        """Find the attempt whose graph is to be used."""
        wins = (index for index, one in enumerate(self.trials) if one.won or (one.faster and when == "always"))
        return next(wins, None)


def recorded(package: Package) -> Trial | None:
    """Read how the trial of a package's row-wise graph came out on this machine; None where there was none."""
    record = _read(store.entry(package))
    if record is None or not record.trials:
        return None
    return record.trials[-1 if record.kept is None else record.kept]


def find(package: Package) -> Path | None:
    """Find a package's row-wise graph, where it is to be used and memory holds both copies of the weights.

    Raises:
        UsageError: the environment says something unknown.
    """
    when, at = store.when(WHEN), store.entry(package)
    record = _read(at) if when != "never" else None
    if record is None or record.kept is None or record.wanted(when) != record.kept:
        return None
    own = sum(one.size for one in package.manifest.files.values())
    # The file holds its weights twice, as they are and prepared; only the prepared ones are read.
    return at / GRAPH if own + record.sizes[DATA] // 2 <= free_memory() else None


def due(package: Package) -> bool:
    """Tell whether there is something to make; where there was no room, it is not asked for every time."""
    when, at = store.when(WHEN), store.entry(package)
    if when == "never":
        return False
    record = _read(at)
    if record is not None and record.trials:
        return record.wanted(when) not in (None, record.kept)
    try:
        return time.time() - (at / MARKER).stat().st_mtime > store.STALE
    except OSError:
        return True


def make(package: Package) -> Path | None:
    """Make a package's row-wise graph and try it, unless that was done.

    Its weights must have been prepared.

    Returns:
        The graph, where it is to be used.

    Raises:
        UsageError: the environment says something unknown.
        ZooError: it cannot be made.
    """
    from filelock import FileLock

    at, when = store.entry(package), store.when(WHEN)
    if when == "never" or store.find(package) is None:
        return None
    try:
        with FileLock(at.with_suffix(".lock")):
            record = _read(at) or _Record()
            if not record.trials or record.wanted(when) not in (None, record.kept):
                try:
                    _make(package, at, when, record.trials)
                except BaseException:
                    _drop(at)
                    raise
    except OSError as error:
        raise ZooError(f"{at}: {error.strerror or error}") from None
    return find(package)


def _read(at: Path) -> _Record | None:
    """Read the marker; a graph whose files are not as it says is none."""
    try:
        said = json.loads((at / MARKER).read_bytes())
        record = _Record(tuple(Trial(**one) for one in said["trials"]), said["kept"], said["sizes"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    try:
        whole = record.kept is None or all((at / name).stat().st_size == record.sizes[name] for name in (GRAPH, DATA))
    except (OSError, KeyError):
        whole = False
    return record if whole else replace(record, kept=None)


def _make(package: Package, at: Path, when: str, trials: tuple[Trial, ...]) -> None:
    """Try what was not tried, and leave the graph that is wanted."""
    written = None
    if not trials and _room(at):
        for index, left in enumerate(ATTEMPTS):
            _write(at, left)
            written = index
            trials += (run_trial(package, at / store.GRAPH, at / GRAPH, left),)
            if trials[-1].won or not trials[-1].faster:
                break
    kept = _Record(trials).wanted(when)
    if kept is not None and kept != written:
        _drop(at)
        if _room(at):
            _write(at, ATTEMPTS[kept])
        else:
            kept = None
    elif kept is None:
        _drop(at)
    sizes = {name: (at / name).stat().st_size for name in (GRAPH, DATA)} if kept is not None else {}
    part = at / (MARKER + store.PART)
    said = {"kept": kept, "sizes": sizes, "trials": [asdict(one) for one in trials]}
    part.write_text(json.dumps(said, indent=1) + "\n")
    part.rename(at / MARKER)


def _room(at: Path) -> bool:
    """Tell whether there is anything to rewrite, and room on disk and in memory; make the room on disk."""
    weights = sum(product.rows * product.columns for product in products(_prepared(at)))
    needed, most = weights * 2, store.limit()
    if not weights or store.size_of(at) + needed > most or weights > free_memory():
        return False
    store.make_room(needed, most)
    return True


def _prepared(at: Path) -> Any:
    """Read the graph over prepared weights."""
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped,unused-ignore]

    try:
        return onnx.load(str(at / store.GRAPH), load_external_data=False)
    except DecodeError as error:
        raise ZooError(f"{at / store.GRAPH}: no ONNX model: {' '.join(str(error).split())[:200]}") from None


def _write(at: Path, left: str | None) -> None:
    """Write the graph and its weights."""
    import onnx

    model = _prepared(at)
    arrays = _Arrays(model, at)
    with open(at / DATA, "wb") as data, tempfile.TemporaryDirectory(dir=at, prefix="one-") as room:

        def stored(product: Product) -> tuple[Any, Any]:
            levels, scales = per_channel(product, arrays.read(product))
            weight, scale = (
                _append(f"{product.name}/weight", levels, data),
                _append(f"{product.name}/scales", scales, data),
            )
            data.flush()
            node = product_node(product.name, "x", weight.name, scale.name)
            one = one_product(model, node, [weight, scale, *constants()], onnx.TensorProto.UINT8)
            locate(weight, *place(weight), prepacked(one, product.name, at, Path(room), data).get(weight.name, []))
            return weight, scale

        rewrite(model, stored, left)
        data.flush()
        os.fsync(data.fileno())
    (at / GRAPH).write_bytes(model.SerializeToString())


def _drop(at: Path) -> None:
    for name in (GRAPH, DATA):
        (at / name).unlink(missing_ok=True)


def _append(name: str, values: Any, data: Any) -> Any:
    """Write an array at the next page; return the initializer that stands for it."""
    import onnx

    offset = next_page(data)
    data.write(np.ascontiguousarray(values).data)
    tensor = onnx.TensorProto(
        name=name, data_type=onnx.helper.np_dtype_to_tensor_dtype(values.dtype), dims=values.shape
    )
    locate(tensor, DATA, offset, values.nbytes)
    return tensor


class _Arrays:
    """The stored arrays of a prepared graph, mapped."""

    def __init__(self, model: Any, folder: Path) -> None:
        self._external = external_tensors(model)
        self._bytes = np.memmap(folder / store.DATA, np.uint8, "r")

    def read(self, product: Product) -> dict[str, Any]:
        """Map the arrays of a product's weight."""
        layout = product.storage.arrays((product.rows, product.columns))
        names = dict(zip(("weight", "scales", "zero_points"), product.node.input[1:4], strict=False))
        return {key: self._map(names[key], one) for key, one in layout.items()}

    def _map(self, name: str, layout: ArrayLayout) -> Any:
        _, offset, length = place(self._external[name])
        return self._bytes[offset : offset + length].view(layout.dtype).reshape(layout.shape)
