"""Rewrite a graph: products with weights in blocks become products with a scale a token and a scale an output channel.

A token's activations x (columns,) are divided by r = max|x| / 127 and rounded, an output channel's weights w
(columns,) by s = max|w| / 127; the product of the integers, exact in 32 bits, times r and s is the result. Source of
the scheme: Yao et al., ZeroQuant, 2022 (activations by the token); Xiao et al., SmoothQuant, 2023 (and weights by the
channel). The operator: onnxruntime, docs/ContribOperators.md, com.microsoft.MatMulIntegerToFloat.

x86 kernels without VNNI add two products of an unsigned and a signed byte in 16 bits, which overflow; there weights
are stored unsigned, around 128 as the activations are, whose kernel is exact. Source: onnxruntime,
docs/performance/model-optimizations/quantization.md, "When and why do I need to try U8U8?".
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zoo.declarations.scheme import BlockScheme
from zoo.quantizers.tiles import read_back
from zoo.targets.ort.encoding import ENCODING

LEVELS = 127
SMALLEST = 1e-30
"""Stands in for the scale of a row of zeros."""
LOGITS = "logits"
PRODUCT = "MatMulIntegerToFloat"
MS = "com.microsoft"
_BLOCK = 1 << 23
"""Weights that are widened to float32 at a time."""


@dataclass(frozen=True, slots=True)
class Product:
    """A node that multiplies by weights in blocks, and whose result is not the logits."""

    node: Any
    rows: int
    """Outputs."""
    columns: int
    """Inputs."""
    scheme: BlockScheme

    @property
    def name(self) -> str:
        return str(self.node.name)


def products(model: Any, left: str | None = None) -> Iterator[Product]:
    """Find the products that can be rewritten: those whose kernel rounds activations to 8 bits already.

    Args:
        left: leave products out whose names contain this.
    """
    import onnx

    for node in model.graph.node:
        if node.op_type != "MatMulNBits" or LOGITS in node.output or (left and left in node.name):
            continue
        said = {one.name: onnx.helper.get_attribute_value(one) for one in node.attribute}
        if said.get("accuracy_level") == 4:
            symmetric = len(node.input) < 4 or not node.input[3]
            scheme = BlockScheme(bits=said["bits"], block_size=said["block_size"], symmetric=symmetric)
            yield Product(node, said["N"], said["K"], scheme)


def per_channel(product: Product, arrays: dict[str, NDArray[Any]]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Round a product's weights anew, with one scale an output channel.

    Args:
        arrays: the stored arrays of the weight.

    Returns:
        Levels, int8 (columns, rows), and scales, float32 (rows,).
    """
    levels = np.empty((product.columns, product.rows), np.int8)
    scales = np.empty(product.rows, np.float32)
    step = max(1, _BLOCK // product.columns)
    values = np.empty((min(step, product.rows), product.columns), np.float32)
    for start in range(0, product.rows, step):
        stop = min(start + step, product.rows)
        part = values[: stop - start]
        read_back(ENCODING, product.scheme, {name: one[start:stop] for name, one in arrays.items()}, part)
        scale = np.maximum(np.abs(part).max(axis=1) / np.float32(LEVELS), np.float32(SMALLEST))
        part /= scale[:, None]
        levels[:, start:stop] = np.rint(part, out=part).T
        scales[start:stop] = scale
    return levels, scales


def unsigned(levels: NDArray[np.int8]) -> NDArray[np.uint8]:
    """Add 128 to levels, in place."""
    shifted = levels.view(np.uint8)
    shifted ^= 0x80
    return shifted


def rewrite(
    model: Any, store: Callable[[Product], tuple[Any, Any]], left: str | None = None, *, signed: bool = True
) -> None:
    """Rewrite a model's products in place.

    Args:
        left: see ``products``.
        signed: whether levels of weights are int8; otherwise they are uint8, around 128.
        store: puts a product's levels and scales where the model will find them; returns the two initializers, named.
    """
    import onnx

    wanted = {product.name: product for product in products(model, left)}
    rounded: dict[str, tuple[str, str]] = {}
    nodes, added = [], []
    for node in model.graph.node:
        product = wanted.get(node.name)
        if product is None:
            nodes.append(node)
            continue
        x, name = node.input[0], node.name
        if x not in rounded:
            nodes += _round_rows(name, x)
            rounded[x] = f"{name}/levels", f"{name}/scale"
        levels, scale = rounded[x]
        weight, scales = store(product)
        added += [weight, scales]
        nodes.append(product_node(name, levels, weight.name, scales.name, signed=signed))
        nodes.append(onnx.helper.make_node("Mul", [f"{name}/product", scale], list(node.output), f"{name}/Mul"))
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    used = {name for node in nodes for name in node.input}
    kept = [one for one in model.graph.initializer if one.name in used]
    del model.graph.initializer[:]
    model.graph.initializer.extend([*kept, *added, *constants()])


def product_node(name: str, levels: str, weight: str, scales: str, *, signed: bool) -> Any:
    """Make the node that multiplies integers and applies the channels' scales."""
    import onnx

    inputs = [levels, weight, f"{_SHARED}/one", scales, f"{_SHARED}/zero_point"]
    if not signed:
        inputs.append(f"{_SHARED}/zero_point")
    return onnx.helper.make_node(PRODUCT, inputs, [f"{name}/product"], name, domain=MS)


_SHARED = "/rowwise"


def constants() -> list[Any]:
    """Make the small constants that all products share."""
    from onnx import numpy_helper

    values = {
        "one": np.float32(1),
        "zero_point": np.uint8(128),
        "last": np.array([-1], np.int64),
        "per_level": np.float32(1 / LEVELS),
        "smallest": np.float32(SMALLEST),
    }
    return [numpy_helper.from_array(np.asarray(value), f"{_SHARED}/{name}") for name, value in values.items()]


def _round_rows(name: str, x: str) -> list[Any]:
    """Nodes that round the rows of ``x``: ``NAME/levels``, uint8 around 128, and ``NAME/scale``, float32 (…, 1)."""
    from onnx import helper

    return [
        helper.make_node("Abs", [x], [f"{name}/magnitudes"], f"{name}/Abs"),
        helper.make_node(
            "ReduceMax", [f"{name}/magnitudes", f"{_SHARED}/last"], [f"{name}/largest"], f"{name}/ReduceMax", keepdims=1
        ),
        helper.make_node("Mul", [f"{name}/largest", f"{_SHARED}/per_level"], [f"{name}/step"], f"{name}/step/Mul"),
        helper.make_node("Max", [f"{name}/step", f"{_SHARED}/smallest"], [f"{name}/scale"], f"{name}/Max"),
        helper.make_node("Div", [x, f"{name}/scale"], [f"{name}/scaled"], f"{name}/Div"),
        helper.make_node(
            "QuantizeLinear", [f"{name}/scaled", f"{_SHARED}/one", f"{_SHARED}/zero_point"], [f"{name}/levels"],
            f"{name}/QuantizeLinear",
        ),
    ]  # fmt: skip
