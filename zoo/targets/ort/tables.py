"""Cosine and sine tables, as a few nodes over constants: ONNX Runtime folds them once at load, so no file carries them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from zoo.contracts import Rotary

if TYPE_CHECKING:
    from zoo.targets.ort.graph import Graph

NAME = "/model/rotary"


def rotary_tables(graph: Graph, rotary: Rotary) -> tuple[str, str]:
    """Add the tables of all positions, each float32 (context, head_dim / 2)."""
    bounds = [graph.constant(f"{NAME}/{key}", value, np.float32) for key, value in (("0", 0), ("1", 1))]
    context = graph.constant(f"{NAME}/context", rotary.context, np.float32)
    steps = graph.node("Range", [bounds[0], context, bounds[1]], f"{NAME}/Range")
    column = graph.constant(f"{NAME}/column", [-1, 1], np.int64)
    positions = graph.node("Reshape", [steps, column], f"{NAME}/positions")
    if rotary.growth is None:
        frequencies = graph.constant(f"{NAME}/frequencies", rotary.frequencies[None], np.float32)
    else:
        frequencies = _growing(graph, rotary, positions)
    angles = graph.node("Mul", [positions, frequencies], f"{NAME}/angles")
    cos, sin = (graph.node(op, [angles], f"{NAME}/{op.lower()}") for op in ("Cos", "Sin"))
    if rotary.magnitude == 1:
        return cos, sin
    magnitude = graph.constant(f"{NAME}/magnitude", rotary.magnitude, np.float32)
    cos, sin = (graph.node("Mul", [one, magnitude], f"{one}/Mul") for one in (cos, sin))
    return cos, sin


def _growing(graph: Graph, rotary: Rotary, positions: str) -> str:
    """Frequencies of a base that grows with the length, one row a position."""
    assert rotary.growth is not None
    theta, factor, original, power = rotary.growth
    constants = {
        "one": 1.0,
        "original": original,
        "factor": factor,
        "offset": factor - 1,
        "power": power,
        "theta": theta,
    }
    const = {key: graph.constant(f"{NAME}/growth/{key}", value, np.float32) for key, value in constants.items()}
    length = graph.node("Add", [positions, const["one"]], f"{NAME}/growth/Add")
    length = graph.node("Max", [length, const["original"]], f"{NAME}/growth/Max")
    stretch = graph.node("Mul", [length, const["factor"]], f"{NAME}/growth/Mul")
    stretch = graph.node("Div", [stretch, const["original"]], f"{NAME}/growth/Div")
    stretch = graph.node("Sub", [stretch, const["offset"]], f"{NAME}/growth/Sub")
    raised = graph.node("Pow", [stretch, const["power"]], f"{NAME}/growth/Pow")
    bases = graph.node("Mul", [raised, const["theta"]], f"{NAME}/growth/theta/Mul")
    exponents = graph.constant(f"{NAME}/growth/exponents", -rotary.exponents[None], np.float32)
    frequencies = graph.node("Pow", [bases, exponents], f"{NAME}/growth/frequencies")
    turning = np.arange(len(rotary.exponents)) < rotary.turning
    mask = graph.constant(f"{NAME}/growth/turning", turning[None], np.float32)
    return graph.node("Mul", [frequencies, mask], f"{NAME}/growth/turning/Mul")
