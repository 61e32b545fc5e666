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

_SWIGLU: dict[str, Any] = {
    "activation_type": "swiglu",
    # Gate and up are interleaved; neither is clamped, nothing is added to up.
    "swiglu_fusion": 1,
    "activation_alpha": 1.0,
    "activation_beta": 0.0,
}
_POINTS, _ROUTER_WEIGHTS = 11, 14
"""Which inputs of QMoE the zero points of gate and up, and ``router_weights`` are."""


@emits(Experts)
def experts(emission: Emission, step: Step, op: Experts) -> str:
    """Choose and weigh by the softmax of the router's scores."""
    graph, name, x = emission.graph, step.name, emission.value(op.x)
    count = op.gate_up.shape[0]
    rows = graph.constant("/model/experts/rows", [-1, count], np.int64)
    scores = graph.node("Reshape", [emission.value(op.router), rows], f"{name}/router")
    numbers = {**_SWIGLU, "k": op.chosen, "normalize_routing_weights": int(op.normalized)}
    schemes = [emission.scheme(weight) for weight in (op.gate_up, op.down)]
    if all(isinstance(scheme, FloatScheme) for scheme in schemes):
        if not op.normalized:
            raise ZooError("target 'ort' lacks: experts(unnormalized) of floating point weights")
        weights = [graph.floats(op.gate_up), "", graph.floats(op.down)]
        return graph.node(f"{MS}::MoE", [x, scores, *weights], f"{name}/MoE", **numbers)
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
    likely = graph.node("Softmax", [scores], f"{name}/Softmax", axis=-1)
    given = [x, likely, *_stored(graph, up, scheme), "", *_stored(graph, down, scheme)]
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


def _stored(graph: Graph, weight: Parameter, scheme: BlockScheme) -> list[str]:
    """Levels, their blocks one behind the other, and scales."""
    count, rows, columns = weight.shape
    levels = graph.external(weight, "weight", shape=[count, rows, columns * scheme.bits // 8], view="_rows")
    return [levels, graph.external(weight, "scales")]
