"""Make the row-wise graph beside a package's prepared weights, try it, and remember what came out."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo.engine.machine import free_memory
from zoo.engine.prepack import store
from zoo.engine.prepack.making import (
    external_tensors,
    locate,
    next_page,
    one_product,
    place,
    prepacked,
)
from zoo.engine.rowwise.exact import signed_is_exact
from zoo.engine.rowwise.record import DATA, GRAPH, WHEN, Record, Trial, find, read
from zoo.engine.rowwise.rewrite import Product, constants, per_channel, product_node, products, rewrite, unsigned
from zoo.errors import ZooError
from zoo.targets.ort.encoding import ENCODING

if TYPE_CHECKING:
    from zoo.contracts import ArrayLayout
    from zoo.package.folder import Package

ATTEMPTS = None, "/down"
"""What is left out: at first nothing; then the products whose inputs, products themselves, have the longest tails."""
Compare = Callable[["Package", Path, Path, str | None], Trial]
"""Compare the graph over prepared weights with the row-wise one, which leaves some products out. What compares two
graphs stands above the engine (``zoo.verify.trial``), so it is passed in."""


def make(package: Package, compare: Compare) -> Path | None:
    """Make a package's row-wise graph and try it, unless that was done.

    Its weights must have been prepared.

    Args:
        compare: tries it against the graph that it would replace.

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
            record = read(at) or Record()
            if not record.trials or record.wanted(when) not in (None, record.kept):
                try:
                    _make(package, compare, at, when, record.trials)
                except BaseException:
                    _drop(at)
                    raise
    except OSError as error:
        raise ZooError(f"{at}: {error.strerror or error}") from None
    return find(package)


def _make(package: Package, compare: Compare, at: Path, when: str, trials: tuple[Trial, ...]) -> None:
    """Try what was not tried, and leave the graph that is wanted."""
    written = None
    if not trials and _room(at):
        for index, left in enumerate(ATTEMPTS):
            _write(at, left)
            written = index
            trials += (compare(package, at / store.GRAPH, at / GRAPH, left),)
            if trials[-1].won or not trials[-1].faster:
                break
    kept = Record(trials).wanted(when)
    if kept is not None and kept != written:
        _drop(at)
        if _room(at):
            _write(at, ATTEMPTS[kept])
        else:
            kept = None
    elif kept is None:
        _drop(at)
    sizes = {name: (at / name).stat().st_size for name in (GRAPH, DATA)} if kept is not None else {}
    Record(trials, kept, sizes).write(at)


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
    arrays, signed = _Arrays(model, at), signed_is_exact()
    with open(at / DATA, "wb") as data, tempfile.TemporaryDirectory(dir=at, prefix="one-") as room:

        def stored(product: Product) -> tuple[Any, Any]:
            levels, scales = per_channel(product, arrays.read(product))
            weight, scale = (
                _append(f"{product.name}/weight", levels if signed else unsigned(levels), data),
                _append(f"{product.name}/scales", scales, data),
            )
            data.flush()
            node = product_node(product.name, "x", weight.name, scale.name, signed=signed)
            one = one_product(model, node, [weight, scale, *constants()], onnx.TensorProto.UINT8)
            locate(weight, *place(weight), prepacked(one, product.name, at, Path(room), data).get(weight.name, []))
            return weight, scale

        rewrite(model, stored, left, signed=signed)
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
        layout = ENCODING.arrays(product.scheme, (product.rows, product.columns))
        names = dict(zip(("weight", "scales", "zero_points"), product.node.input[1:4], strict=False))
        return {key: self._map(names[key], one) for key, one in layout.items()}

    def _map(self, name: str, layout: ArrayLayout) -> Any:
        _, offset, length = place(self._external[name])
        return self._bytes[offset : offset + length].view(layout.dtype).reshape(layout.shape)
