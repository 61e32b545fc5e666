"""Norms over the last axis; an RMSNorm with the sum before it is one node.

Operators and their attributes: onnxruntime, docs/ContribOperators.md (domain com.microsoft).
"""

from __future__ import annotations

from zoo.operations import LayerNorm, RmsNorm, Step
from zoo.targets.ort.emission import Emission, emits
from zoo.targets.ort.graph import MS, Graph


@emits(RmsNorm)
def rms(emission: Emission, step: Step, op: RmsNorm) -> str:
    """An RMSNorm; with a sum before it, both are one node."""
    graph, weight, added = emission.graph, emission.graph.floats(op.weight), emission.sum_before(step)
    if added is None:
        return rms_norm(graph, step.name, emission.value(op.x), weight, op.eps)
    outputs = [f"{step.name}/SkipLayerNorm/output_0", "", "", f"{step.name}/SkipLayerNorm/output_3"]
    emission.set_value(op.x, outputs[3])
    given = [emission.value(added.a), emission.value(added.b), weight]
    kind = f"{MS}::SkipSimplifiedLayerNormalization"
    return graph.node(kind, given, f"{step.name}/SkipLayerNorm", outputs, epsilon=op.eps)


@emits(LayerNorm)
def layer(emission: Emission, step: Step, op: LayerNorm) -> str:
    """A LayerNorm. A sum before it stays a node: SkipLayerNormalization takes several times as long as the two."""
    weight, *bias = (emission.graph.floats(weight) for weight in op.weights)
    return layer_norm(emission.graph, step.name, emission.value(op.x), weight, op.eps, *bias)


def rms_norm(graph: Graph, name: str, x: str, weight: str, eps: float) -> str:
    """SimplifiedLayerNormalization is ONNX Runtime's RMSNorm."""
    return graph.node(
        "SimplifiedLayerNormalization", [x, weight], f"{name}/LayerNorm", axis=-1, epsilon=eps, stash_type=1
    )


def layer_norm(graph: Graph, name: str, x: str, weight: str, eps: float, *bias: str) -> str:
    """The standard's own operator."""
    return graph.node("LayerNormalization", [x, weight, *bias], f"{name}/LayerNorm", axis=-1, epsilon=eps, stash_type=1)
