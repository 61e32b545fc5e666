"""The operations outside attention, as ONNX Runtime's CPU kernels offer them.

Operators and their attributes: onnxruntime, docs/ContribOperators.md (domain com.microsoft).
"""

from __future__ import annotations

import numpy as np

from zoo.contracts import Parameter
from zoo.declarations.storage import BlockStorage, FloatStorage
from zoo.operations import (
    Activation,
    Add,
    Embedding,
    LastPositions,
    Linear,
    Logits,
    Multiply,
    RmsNorm,
    Scale,
    Step,
    TokenIds,
)
from zoo.targets.ort.emission import Emission, emits
from zoo.targets.ort.graph import MS, Graph


@emits(TokenIds)
def token_ids(emission: Emission, step: Step, op: TokenIds) -> str:
    """The input ``input_ids``."""
    return "input_ids"


@emits(Embedding)
def embedding(emission: Emission, step: Step, op: Embedding) -> str:
    """Gather rows, from floats or from blocks."""
    graph, name, weight, ids = emission.graph, step.name, op.weight, emission.value(op.ids)
    storage = emission.storage(weight)
    if isinstance(storage, FloatStorage):
        rows = graph.node("Gather", [graph.external(weight, "weight"), ids], f"{name}/Gather")
        return rows if storage.dtype == "float32" else graph.as_float(rows)
    vocab, hidden = weight.shape
    width = storage.blocks(hidden) * storage.block_size
    # The same bytes as MatMulNBits' (rows, blocks, bytes), where the embedding is the output head too.
    flat = graph.external(weight, "weight", shape=[vocab, width * storage.bits // 8], view="_rows")
    rows = graph.node(
        f"{MS}::GatherBlockQuantized",
        [flat, ids, *_levels(graph, weight, storage)],
        f"{name}/GatherBlockQuantized",
        bits=storage.bits,
        block_size=storage.block_size,
        gather_axis=0,
        quantize_axis=1,
    )
    if hidden == width:
        return rows
    # Rows are stored in whole blocks; what lies past the hidden size is padding.
    bounds = {"start": 0, "end": hidden, "axis": 2}
    slices = [graph.constant(f"{name}/{key}", [value], np.int64) for key, value in bounds.items()]
    return graph.node("Slice", [rows, *slices], f"{name}/Slice")


def _levels(graph: Graph, weight: Parameter, storage: BlockStorage) -> list[str]:
    """The scales of a weight in blocks, and its zero points where it has some."""
    arrays = ["scales"] if storage.symmetric else ["scales", "zero_points"]
    return [graph.external(weight, array) for array in arrays]


@emits(Linear)
def linear(emission: Emission, step: Step, op: Linear) -> str:
    """Multiply by a matrix in the checkpoint's own (out, in) order, from floats or from blocks."""
    graph, name, weight, x = emission.graph, step.name, op.weight, emission.value(op.x)
    storage = emission.storage(weight)
    if isinstance(storage, FloatStorage):
        y = graph.node(f"{MS}::FusedMatMul", [x, graph.floats(weight)], f"{name}/MatMul", transB=1)
    else:
        rows, columns = weight.shape
        y = graph.node(
            f"{MS}::MatMulNBits",
            [x, graph.external(weight, "weight"), *_levels(graph, weight, storage)],
            f"{name}/MatMul",
            K=columns,
            N=rows,
            bits=storage.bits,
            block_size=storage.block_size,
            accuracy_level=emission.accuracy_level,
        )
    return y if op.bias is None else graph.node("Add", [y, graph.floats(op.bias)], f"{name}/Add")


@emits(RmsNorm)
def rms_norm(emission: Emission, step: Step, op: RmsNorm) -> str:
    """SimplifiedLayerNormalization is ONNX Runtime's RMSNorm; with a sum before it, both are one node."""
    graph, name = emission.graph, step.name
    added = emission.sum_before(step)
    if added is None:
        return rms(graph, name, emission.value(op.x), op.weight, op.eps)
    outputs = [f"{name}/SkipLayerNorm/output_0", "", "", f"{name}/SkipLayerNorm/output_3"]
    emission.set_value(op.x, outputs[3])
    return graph.node(
        f"{MS}::SkipSimplifiedLayerNormalization",
        [emission.value(added.a), emission.value(added.b), graph.floats(op.weight)],
        f"{name}/SkipLayerNorm",
        outputs,
        epsilon=op.eps,
    )


def rms(graph: Graph, name: str, x: str, weight: Parameter, eps: float) -> str:
    """Add an RMSNorm over the last axis."""
    return graph.node(
        "SimplifiedLayerNormalization",
        [x, graph.floats(weight)],
        f"{name}/LayerNorm",
        axis=-1,
        epsilon=eps,
        stash_type=1,
    )


@emits(Activation)
def activation(emission: Emission, step: Step, op: Activation) -> str:
    """SiLU is QuickGelu with alpha 1: x · sigmoid(x), in one node."""
    graph, x = emission.graph, emission.value(op.x)
    if op.function == "silu":
        return graph.node(f"{MS}::QuickGelu", [x], step.name, alpha=1.0)
    if op.function == "relu":
        return graph.node("Relu", [x], step.name)
    return graph.node("Gelu", [x], step.name, approximate="none" if op.function == "gelu" else "tanh")


@emits(Multiply)
def multiply(emission: Emission, step: Step, op: Multiply) -> str:
    """Multiply element by element."""
    return emission.graph.node("Mul", [emission.value(op.a), emission.value(op.b)], step.name)


@emits(Scale)
def scale(emission: Emission, step: Step, op: Scale) -> str:
    """Multiply by a number."""
    factor = emission.graph.constant(f"{step.name}/factor", op.factor, np.float32)
    return emission.graph.node("Mul", [emission.value(op.x), factor], step.name)


@emits(Add)
def add(emission: Emission, step: Step, op: Add) -> str:
    """Add element by element."""
    return emission.graph.node("Add", [emission.value(op.a), emission.value(op.b)], step.name)


@emits(LastPositions)
def last_positions(emission: Emission, step: Step, op: LastPositions) -> str:
    """Keep the positions whose logits are wanted, as the inputs say it."""
    return emission.inputs.wanted(step.name, emission.value(op.x))


@emits(Logits)
def logits(emission: Emission, step: Step, op: Logits) -> str:
    """Name the result."""
    emission.graph.rename(emission.value(op.x), "logits")
    emission.inputs.declare_logits(emission.program.width(op.x))
    return "logits"
