"""The operations outside attention, as ONNX Runtime's CPU kernels offer them.

Operators and their attributes: onnxruntime, docs/ContribOperators.md (domain com.microsoft).
"""

from __future__ import annotations

import numpy as np

from zoo.contracts import Parameter
from zoo.declarations.scheme import BlockScheme, FloatScheme
from zoo.operations import (
    Activation,
    Add,
    Embedding,
    FirstPosition,
    HiddenStates,
    LastPositions,
    Linear,
    Logits,
    Multiply,
    Positions,
    Scale,
    Scores,
    Softcap,
    Step,
    TokenIds,
    TokenTypes,
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
    rows = _looked_up(emission, step, op)
    if op.channels is None:
        return rows
    return emission.graph.node("Mul", [rows, emission.graph.floats(op.channels)], f"{step.name}/channels")


def _looked_up(emission: Emission, step: Step, op: Embedding) -> str:
    graph, name, weight, ids = emission.graph, step.name, op.weight, emission.value(op.ids)
    scheme = emission.scheme(weight)
    if isinstance(scheme, FloatScheme):
        rows = graph.node("Gather", [graph.external(weight, "weight"), ids], f"{name}/Gather")
        return rows if scheme.dtype == "float32" else graph.as_float(rows)
    vocab, hidden = weight.shape
    width = scheme.blocks(hidden) * scheme.block_size
    # The same bytes as MatMulNBits' (rows, blocks, bytes), where the embedding is the output head too.
    flat = graph.external(weight, "weight", shape=[vocab, width * scheme.bits // 8], view="_rows")
    rows = graph.node(
        f"{MS}::GatherBlockQuantized",
        [flat, ids, *_levels(graph, weight, scheme)],
        f"{name}/GatherBlockQuantized",
        bits=scheme.bits,
        block_size=scheme.block_size,
        gather_axis=0,
        quantize_axis=1,
    )
    if hidden == width:
        return rows
    # Rows are stored in whole blocks; what lies past the hidden size is padding.
    bounds = {"start": 0, "end": hidden, "axis": 2}
    slices = [graph.constant(f"{name}/{key}", [value], np.int64) for key, value in bounds.items()]
    return graph.node("Slice", [rows, *slices], f"{name}/Slice")


def _levels(graph: Graph, weight: Parameter, scheme: BlockScheme) -> list[str]:
    """The scales of a weight in blocks, and its zero points where it has some."""
    scales = [graph.floats(weight, "scales")]
    return scales if scheme.symmetric else [*scales, graph.external(weight, "zero_points")]


@emits(Linear)
def linear(emission: Emission, step: Step, op: Linear) -> str:
    """Multiply by a matrix in the checkpoint's own (out, in) order, from floats or from blocks."""
    graph, name, weight, x = emission.graph, step.name, op.weight, emission.value(op.x)
    scheme = emission.scheme(weight)
    if isinstance(scheme, FloatScheme):
        y = graph.node(f"{MS}::FusedMatMul", [x, graph.floats(weight)], f"{name}/MatMul", transB=1)
    else:
        rows, columns = weight.shape
        y = graph.node(
            f"{MS}::MatMulNBits",
            [x, graph.external(weight, "weight"), *_levels(graph, weight, scheme)],
            f"{name}/MatMul",
            K=columns,
            N=rows,
            bits=scheme.bits,
            block_size=scheme.block_size,
            accuracy_level=emission.accuracy_level,
        )
    return y if op.bias is None else graph.node("Add", [y, graph.floats(op.bias)], f"{name}/Add")


GELU = {"gelu": "none", "gelu_new": "tanh", "gelu_fast": "tanh", "gelu_pytorch_tanh": "tanh"}
SIGMOIDS = {"silu": 1.0, "quick_gelu": 1.702}
"""Functions that are x · sigmoid(alpha · x), which QuickGelu computes in one node."""
PLAIN = {"relu": "Relu", "relu2": "Relu", "tanh": "Tanh", "sigmoid": "Sigmoid"}


@emits(Activation)
def activation(emission: Emission, step: Step, op: Activation) -> str:
    """Apply a function by its name."""
    graph, x, name = emission.graph, emission.value(op.x), step.name
    if op.function in SIGMOIDS:
        return graph.node(f"{MS}::QuickGelu", [x], name, alpha=SIGMOIDS[op.function])
    if op.function in GELU:
        return graph.node("Gelu", [x], name, approximate=GELU[op.function])
    y = graph.node(PLAIN[op.function], [x], name)
    return graph.node("Mul", [y, y], f"{name}/square") if op.function == "relu2" else y


@emits(Softcap)
def softcap(emission: Emission, step: Step, op: Softcap) -> str:
    """Divide, take the hyperbolic tangent, multiply."""
    graph, name = emission.graph, step.name
    cap = graph.constant(f"{name}/cap", op.cap, np.float32)
    share = graph.node("Div", [emission.value(op.x), cap], f"{name}/Div")
    return graph.node("Mul", [graph.node("Tanh", [share], f"{name}/Tanh"), cap], f"{name}/Mul")


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


@emits(Positions)
def positions(emission: Emission, step: Step, op: Positions) -> str:
    """The positions of the step's tokens, as the inputs say it."""
    counted = emission.inputs.positions("/model/counted", emission.program.context)
    if not op.first:
        return counted
    first = emission.graph.constant(f"{step.name}/first", op.first, np.int64)
    return emission.graph.node("Add", [counted, first], step.name)


@emits(TokenTypes)
def token_types(emission: Emission, step: Step, op: TokenTypes) -> str:
    """The input ``token_type_ids``; zeros where there is one type."""
    if op.types == 1:
        return emission.graph.node("Sub", [emission.value(op.ids)] * 2, step.name)
    return emission.graph.input("token_type_ids", "int64", ["batch_size", "sequence_length"])


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


@emits(FirstPosition)
def first_position(emission: Emission, step: Step, op: FirstPosition) -> str:
    """Gather along the sequence."""
    index = emission.graph.constant(f"{step.name}/index", 0, np.int64)
    return emission.graph.node("Gather", [emission.value(op.x), index], step.name, axis=1)


@emits(Scores)
def scores(emission: Emission, step: Step, op: Scores) -> str:
    """Name the result ``logits``, as exporters of classifiers do."""
    emission.graph.rename(emission.value(op.x), "logits")
    return emission.graph.output("logits", "float32", ["batch_size", emission.program.width(op.x)])


@emits(HiddenStates)
def hidden_states(emission: Emission, step: Step, op: HiddenStates) -> str:
    """Name the result ``last_hidden_state``."""
    emission.graph.rename(emission.value(op.x), "last_hidden_state")
    shape: list[str | int] = ["batch_size", "sequence_length", emission.program.width(op.x)]
    return emission.graph.output("last_hidden_state", "float32", shape)
