"""Mixture of experts, by MoE over floats and QMoE over blocks.

Operators and their attributes: onnxruntime, docs/ContribOperators.md (domain com.microsoft).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from zoo.contracts import Parameter
from zoo.declarations.scheme import BlockScheme, FloatScheme
from zoo.errors import ZooError
from zoo.operations import Experts, Step
from zoo.targets.ort.emission import Emission, emits
from zoo.targets.ort.graph import MS, Graph

_POINTS, _ROUTER_WEIGHTS = 11, 14
"""Which inputs of QMoE the zero points of gate and up, and ``router_weights`` are."""


@emits(Experts)
def experts(emission: Emission, step: Step, op: Experts) -> str:
    """Choose and weigh by the router's scores; MoE is told both by scores of its own, QMoE by two inputs."""
    graph, name, x = emission.graph, step.name, emission.value(op.x)
    count = op.gate_up.shape[0]
    rows = graph.constant(f"/model/experts/rows_{count}", [-1, count], np.int64)
    scores = graph.node("Reshape", [emission.value(op.router), rows], f"{name}/router")
    numbers: dict[str, Any] = {
        "activation_type": "swiglu",
        "swiglu_fusion": 1,  # gate and up are interleaved
        "activation_alpha": op.alpha,
        "activation_beta": op.offset,
        **({} if op.limit is None else {"swiglu_limit": op.limit}),
        "k": op.chosen,
        "normalize_routing_weights": int(op.normalized),
    }
    biases = ["" if bias is None else graph.floats(bias) for bias in (op.gate_up_bias, op.down_bias)]
    schemes = [emission.scheme(weight) for weight in (op.gate_up, op.down)]
    if all(isinstance(scheme, FloatScheme) for scheme in schemes):
        weights = [graph.floats(op.gate_up), biases[0], graph.floats(op.down), *biases[1:]][: 6 if biases[1] else 5]
        if not op.features() & {"sigmoid", "biased choice", "groups"}:
            return graph.node(f"{MS}::MoE", [x, scores, *weights], f"{name}/MoE", **numbers)
        likely, choice = _choice(graph, name, scores, op)
        alone, total = _chosen_alone(graph, name, likely, choice, op)
        y = graph.node(f"{MS}::MoE", [x, alone, *weights], f"{name}/MoE", **numbers | {"normalize_routing_weights": 1})
        return y if op.normalized else _scaled(graph, name, y, total)
    (up, down), (scheme, other) = (op.gate_up, op.down), schemes
    if isinstance(scheme, FloatScheme) or isinstance(other, FloatScheme) or (scheme.bits, scheme.symmetric) != (
        other.bits, other.symmetric,
    ):  # fmt: skip
        raise ZooError(f"{up.name} and {down.name} are stored in different ways, which QMoE does not take")
    for weight, own in ((up, scheme), (down, other)):
        if scheme.block_size != other.block_size or weight.columns % own.block_size:
            raise ZooError(
                f"QMoE wants whole blocks of one size; the rows of {up.name} are {up.columns} wide in blocks of "
                f"{scheme.block_size}, those of {down.name} {down.columns} in blocks of {other.block_size}: choose "
                "another block size"
            )
    likely, choice = _choice(graph, name, scores, op)
    given = [x, choice, *_stored(graph, up, scheme), biases[0], *_stored(graph, down, scheme), biases[1]]
    if not scheme.symmetric:
        given += [""] * (_POINTS - len(given)) + [graph.external(weight, "zero_points") for weight in (up, down)]
    given += [""] * (_ROUTER_WEIGHTS - len(given)) + [likely]
    return graph.node(
        f"{MS}::QMoE",
        given,
        f"{name}/QMoE",
        **numbers,
        expert_weight_bits=scheme.bits,
        block_size=scheme.block_size,
        accuracy_level=emission.accuracy_level,
    )


def _choice(graph: Graph, name: str, scores: str, op: Experts) -> tuple[str, str]:
    """Make the weights of all experts, and what they are chosen by, both (tokens, experts)."""
    if op.sigmoid:
        likely = choice = graph.node("Sigmoid", [scores], f"{name}/Sigmoid")
    else:
        likely = choice = graph.node("Softmax", [scores], f"{name}/Softmax", axis=-1)
    if op.bias is not None:
        choice = graph.node("Add", [likely, graph.floats(op.bias)], f"{name}/biased")
    if op.groups is None:
        return likely, choice
    count, groups = op.gate_up.shape[0], op.groups
    shape = graph.constant(
        f"/model/experts/grouped_{groups.count}_{count}", [-1, groups.count, count // groups.count], np.int64
    )
    grouped = graph.node("Reshape", [choice, shape], f"{name}/grouped")
    last = graph.constant("/model/experts/last", [-1], np.int64)
    best = _highest(graph, f"{name}/best", grouped, groups.best)[0]
    total = graph.node("ReduceSum", [best, last], f"{name}/groups", keepdims=0)
    kept = _highest(graph, f"{name}/kept", total, groups.chosen)[0]
    least = graph.node("ReduceMin", [kept, last], f"{name}/least", keepdims=1)
    out = graph.node("Unsqueeze", [graph.node("Less", [total, least], f"{name}/Less"), last], f"{name}/out")
    never = graph.constant("/model/experts/never", np.finfo(np.float32).min, np.float32)
    masked = graph.node("Where", [out, never, grouped], f"{name}/Where")
    rows = graph.constant(f"/model/experts/rows_{count}", [-1, count], np.int64)
    return likely, graph.node("Reshape", [masked, rows], f"{name}/choice")


def _chosen_alone(graph: Graph, name: str, likely: str, choice: str, op: Experts) -> tuple[str, str]:
    """Make scores whose softmax is the normalized weights of the chosen, and the sum of their weights.

    The logarithm of a weight is such a score; experts that are not chosen get as little as float32 has.
    """
    last = graph.constant("/model/experts/last", [-1], np.int64)
    places = _highest(graph, f"{name}/chosen", choice, op.chosen)[1]
    weights = graph.node("GatherElements", [likely, places], f"{name}/weights", axis=1)
    never = graph.constant("/model/experts/never", np.finfo(np.float32).min, np.float32)
    none = graph.node("Expand", [never, graph.node("Shape", [likely], f"{name}/Shape")], f"{name}/none")
    logarithms = graph.node("Log", [weights], f"{name}/Log")
    alone = graph.node("ScatterElements", [none, places, logarithms], f"{name}/alone", axis=1)
    return alone, graph.node("ReduceSum", [weights, last], f"{name}/total", keepdims=1)


def _scaled(graph: Graph, name: str, y: str, total: str) -> str:
    """Multiply each token's result, (batch, sequence, hidden), by its number, (tokens, 1)."""
    like = graph.node("Shape", [y], f"{name}/made", end=2)
    one = graph.constant("/model/experts/one", [1], np.int64)
    shape = graph.node("Concat", [like, one], f"{name}/total/shape", axis=0)
    return graph.node("Mul", [y, graph.node("Reshape", [total, shape], f"{name}/total/rows")], f"{name}/weighed")


def _highest(graph: Graph, name: str, values: str, count: int) -> list[str]:
    """The highest values along the last axis, and where they are."""
    made = [f"{name}/values", f"{name}/places"]
    graph.node("TopK", [values, graph.constant(f"/model/experts/top_{count}", [count], np.int64)], name, made, axis=-1)
    return made


def _stored(graph: Graph, weight: Parameter, scheme: BlockScheme) -> list[str]:
    """Levels, their blocks one behind the other, and scales."""
    count, rows, columns = weight.shape
    levels = graph.external(weight, "weight", shape=[count, rows, columns * scheme.bits // 8], view="_rows")
    return [levels, graph.floats(weight, "scales")]
