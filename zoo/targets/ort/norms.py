"""Norms over the last axis, alone or with the sum before them in one node.

Operators and their attributes: onnxruntime, docs/ContribOperators.md (domain com.microsoft).
"""

from __future__ import annotations

from zoo.operations import LayerNorm, RmsNorm, Step
from zoo.targets.ort.emission import Emission, emits
from zoo.targets.ort.graph import MS, Graph


@emits(RmsNorm)
def rms(emission: Emission, step: Step, op: RmsNorm) -> str:
    """An RMSNorm; with a sum before it, both are one node."""
    weight = emission.graph.floats(op.weight)
    return _after_sum(emission, step, op, "SkipSimplifiedLayerNormalization", [weight]) or rms_norm(
        emission.graph, step.name, emission.value(op.x), weight, op.eps
    )


@emits(LayerNorm)
def layer(emission: Emission, step: Step, op: LayerNorm) -> str:
    """A LayerNorm; with a sum before it, both are one node."""
    graph = emission.graph
    weights = [graph.floats(weight) for weight in op.weights]
    return _after_sum(emission, step, op, "SkipLayerNormalization", weights) or layer_norm(
        graph, step.name, emission.value(op.x), weights[0], op.eps, *weights[1:]
    )


def _after_sum(emission: Emission, step: Step, op: RmsNorm | LayerNorm, kind: str, weights: list[str]) -> str | None:
    """Add and normalize in one node; None where no sum waits for the norm."""
    added = emission.sum_before(step)
    if added is None:
        return None
    outputs = [f"{step.name}/SkipLayerNorm/output_0", "", "", f"{step.name}/SkipLayerNorm/output_3"]
    emission.set_value(op.x, outputs[3])
    given = [emission.value(added.a), emission.value(added.b), *weights]
    return emission.graph.node(f"{MS}::{kind}", given, f"{step.name}/SkipLayerNorm", outputs, epsilon=op.eps)


def rms_norm(graph: Graph, name: str, x: str, weight: str, eps: float) -> str:
    """SimplifiedLayerNormalization is ONNX Runtime's RMSNorm."""
    return graph.node(
        "SimplifiedLayerNormalization", [x, weight], f"{name}/LayerNorm", axis=-1, epsilon=eps, stash_type=1
    )


def layer_norm(graph: Graph, name: str, x: str, weight: str, eps: float, *bias: str) -> str:
    """The standard's own operator."""
    return graph.node("LayerNormalization", [x, weight, *bias], f"{name}/LayerNorm", axis=-1, epsilon=eps, stash_type=1)
