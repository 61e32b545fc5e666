"""Prepare a package's weights, one matrix in memory at a time.

onnxruntime itself saves what it rearranged (``session.save_external_prepacked_constant_initializers``), for a whole
model, in the memory of the whole model. Here each product is a model of its own; what it saves moves into one file.
Source of the format: onnxruntime, core/graph/graph.cc and core/framework/tensor_external_data_info.h: entries
``prepacked_N`` = ``key|offset;bytes;flags|…`` of an initializer's external data.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from zoo.engine.prepack.store import DATA, GRAPH, MARKER, PART, drop, entry, find, limit, make_room, require_own
from zoo.errors import ZooError
from zoo.package.running import held_by
from zoo.trust import make_private

if TYPE_CHECKING:
    from zoo.package.folder import Package

SOURCES = "batch.onnx", "model.onnx"
"""The graph of a model that generates; that of an encoder."""
PRODUCTS = ("MatMulNBits", "FusedMatMul")
"""Operators whose weights are rearranged."""
PAGE = 4096
COPY = 2**24
Progress = Callable[[str, int, int], None]
"""Called with what is done next, and how many of how many parts are done."""


def grows_to(package: Package) -> int:
    """Bytes on disk that the prepared weights of a package take: its own, scales in float32, and as many rearranged."""
    return int(held_by(package.manifest) * 2.15)


def can_prepare(package: Package) -> bool:
    """Tell whether a package's weights can be prepared; float16 is widened when it is opened, whatever is kept."""
    return package.manifest.recipe.precision != "fp16"


def source(package: Package) -> str:
    """Name the graph that the engine opens where nothing is prepared."""
    return SOURCES[SOURCES[0] not in package.manifest.files]


def make(package: Package, progress: Progress | None = None) -> Path:
    """Prepare a package's weights, unless they are prepared already.

    Args:
        progress: called before each product.

    Returns:
        The graph to open.

    Raises:
        ZooError: they cannot be prepared, or would take more room than they may.
    """
    from filelock import FileLock

    if not can_prepare(package):
        raise ZooError(f"{package.path.name}: weights of float16 cannot be prepared")
    target = entry(package)
    try:
        make_private(target.parent)
        require_own(target)
        with FileLock(target.with_suffix(".lock")):
            if (found := find(package)) is not None:
                return found
            needed, most = grows_to(package), limit()
            if needed > most:
                raise ZooError(
                    f"{package.path.name}: prepared weights would take {needed / 1e9:.1f} GB of disk, and may take "
                    f"{most / 1e9:.1f} GB"
                )
            make_room(needed, most)
            part = target.with_name(target.name + PART)
            shutil.rmtree(part, ignore_errors=True)
            part.mkdir(mode=0o700)
            try:
                _prepare(package.path / source(package), part, progress)
                package.check_unchanged()
                drop(target)  # of another size than it says, or it had been found
                part.rename(target)
            finally:
                shutil.rmtree(part, ignore_errors=True)
    except OSError as error:
        raise ZooError(f"{target}: {error.strerror or error}") from None
    return target / GRAPH


def _prepare(graph: Path, folder: Path, progress: Progress | None) -> None:
    import onnx

    source, model = graph.parent, onnx.load(str(graph), load_external_data=False)
    external = external_tensors(model)
    casts = {node.output[0]: node for node in model.graph.node if node.op_type == "Cast" and node.input[0] in external}
    folded: dict[str, Any] = {}
    prepared: dict[str, list[tuple[str, str]]] = {}
    with open(folder / DATA, "wb") as data, tempfile.TemporaryDirectory(dir=folder, prefix="one-") as room:
        nodes = [node for node in model.graph.node if node.op_type in PRODUCTS and node.input[1] in external]
        for done, node in enumerate(nodes):
            if progress is not None:
                progress(node.name, done, len(nodes))
            weights = [external[name] for name in node.input[1:] if name in external]
            wide = {name: widen(external[casts[name].input[0]], name, source) for name in node.input if name in casts}
            product = one_product(model, node, [*weights, *wide.values()])
            folded |= {name: store(tensor, data) for name, tensor in wide.items()}
            for name, entries in prepacked(product, node.name, source, Path(room), data).items():
                prepared.setdefault(name, []).extend(entries)
        for name, node in casts.items():
            if name not in folded:
                folded[name] = store(widen(external[node.input[0]], name, source), data)
            model.graph.node.remove(node)
            tensor = external.pop(node.input[0], None)
            if tensor is not None:
                model.graph.initializer.remove(tensor)
        for name, tensor in folded.items():
            tensor.external_data.extend(entries_of(prepared.get(name, [])))
        model.graph.initializer.extend(folded.values())
        for name, tensor in external.items():
            file, offset, length = place(tensor)
            locate(tensor, DATA, copy(source / file, offset, length, data), length, prepared.get(name, []))
        data.flush()
        os.fsync(data.fileno())
    (folder / GRAPH).write_bytes(model.SerializeToString())
    sizes = {name: (folder / name).stat().st_size for name in (GRAPH, DATA)}
    (folder / MARKER).write_text(json.dumps(sizes) + "\n")


def external_tensors(model: Any) -> dict[str, Any]:
    """Find a model's initializers that lie in a file of their own, by name."""
    import onnx

    return {one.name: one for one in model.graph.initializer if one.data_location == onnx.TensorProto.EXTERNAL}


def place(tensor: Any) -> tuple[str, int, int]:
    """Read where an initializer's bytes lie: the file, the offset and the length there."""
    said = {one.key: one.value for one in tensor.external_data}
    return said["location"], int(said["offset"]), int(said["length"])


def locate(tensor: Any, file: str, offset: int, length: int, prepared: Sequence[tuple[str, str]] = ()) -> None:
    """Say where an initializer's bytes lie, and what was prepared of it."""
    import onnx

    tensor.data_location = onnx.TensorProto.EXTERNAL
    del tensor.external_data[:]
    said = [("location", file), ("offset", str(offset)), ("length", str(length)), *prepared]
    tensor.external_data.extend(entries_of(said))


def entries_of(said: Sequence[tuple[str, str]]) -> list[Any]:
    """Write pairs as entries of an initializer's external data."""
    import onnx

    return [onnx.StringStringEntryProto(key=key, value=value) for key, value in said]


def widen(tensor: Any, name: str, source: Path) -> Any:
    """Make the float32 initializer that a cast of a stored one gives.

    Args:
        name: of the cast's result.
        source: the folder of the stored one's data.
    """
    import numpy as np
    from onnx import helper, numpy_helper

    file, offset, length = place(tensor)
    with (source / file).open("rb") as stored:
        stored.seek(offset)
        values = np.frombuffer(stored.read(length), helper.tensor_dtype_to_np_dtype(tensor.data_type))
    return numpy_helper.from_array(values.astype(np.float32).reshape(tuple(tensor.dims)), name)


def store(tensor: Any, data: IO[bytes]) -> Any:
    """Append an initializer's own bytes to a file at the next page, and say where they lie."""
    start = -(-data.tell() // PAGE) * PAGE
    data.seek(start)
    data.write(tensor.raw_data)
    locate(tensor, DATA, start, len(tensor.raw_data))
    tensor.ClearField("raw_data")
    return tensor


def one_product(model: Any, node: Any, weights: Sequence[Any]) -> bytes:
    """Make a model of one node.

    Args:
        model: which the node is from.
        weights: the initializers that it reads.
    """
    from onnx import TensorProto, helper

    value, result = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in (node.input[0], node.output[0])
    )
    graph = helper.make_graph([node], "product", [value], [result], weights)
    made = helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)
    return bytes(made.SerializeToString())


def prepacked(product: bytes, name: str, source: Path, room: Path, data: IO[bytes]) -> dict[str, list[tuple[str, str]]]:
    """Open a model of one product, so that onnxruntime saves its weights, and append those to a file.

    Args:
        product: the model.
        name: of the node.
        source: the folder of its external data.
        room: an empty folder.
        data: the file.

    Returns:
        For each initializer the entries of its external data that say where its weights lie in the file.
    """
    import onnx
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.enable_cpu_mem_arena = False
    options.intra_op_num_threads = 1
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.optimized_model_filepath = str(room / "one.onnx")
    for key, text in {
        "session.model_external_initializers_file_folder_path": str(source.resolve()),
        "session.optimized_model_external_initializers_file_name": "one.data",
        "session.optimized_model_external_initializers_min_size_in_bytes": "0",
        "session.save_external_prepacked_constant_initializers": "1",
    }.items():
        options.add_session_config_entry(key, text)
    try:
        ort.InferenceSession(product, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's errors have no common base of their own
        raise ZooError(f"{name}: onnxruntime does not prepare it: {' '.join(str(error).split())[:200]}") from None
    saved = onnx.load(str(room / "one.onnx"), load_external_data=False)
    prepared: dict[str, list[tuple[str, str]]] = {}
    for tensor in saved.graph.initializer:
        for item in tensor.external_data:
            if not item.key.startswith("prepacked_"):
                continue
            key, *buffers = item.value.split("|")
            moved = [key]
            for buffer in buffers:
                offset, length, *flags = buffer.split(";")
                at = copy(room / "one.data", int(offset), int(length), data)
                moved.append(";".join([str(at), length, *flags]))
            prepared.setdefault(tensor.name, []).append((item.key, "|".join(moved)))
    for name in ("one.onnx", "one.data"):
        (room / name).unlink()
    return prepared


def copy(source: Path, offset: int, length: int, data: IO[bytes]) -> int:
    """Append a part of a file at the next page; return where it begins."""
    start = -(-data.tell() // PAGE) * PAGE
    data.seek(start)
    with source.open("rb") as file:
        file.seek(offset)
        while length:
            block = file.read(min(length, COPY))
            if not block:
                raise ZooError(f"{source.name}: shorter than its graph says")
            data.write(block)
            length -= len(block)
    return start
