"""Cosine and sine tables, as nodes of the graph, so that no file carries them.

Where the tables are small and the same for every call, they are made of constants, and ONNX Runtime folds them once at
load. Tables of very long contexts, and those of a base that grows with the sequence, are made in each call, for the
positions that the call reaches.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from zoo.operations import Angles, Rotary

if TYPE_CHECKING:
    from zoo.targets.ort.graph import Graph
    from zoo.targets.ort.inputs import StepInputs

NAME = "/model/rotary"
"""Of the first rotary positions that a program uses; others are numbered."""
FOLDED = 1 << 22
"""Entries of a table that may be folded, 16 MB; a longer context would hold memory for positions nobody reaches."""


def rotary_tables(graph: Graph, inputs: StepInputs, rotary: Rotary, context: int, pairs: int, name: str) -> list[str]:
    """Add the tables, each float32 (positions, pairs), and return the names of cosine and sine.

    Args:
        context: positions that the graph serves.
        pairs: columns that the kernel wants; those past the rotary's own do not turn.
        name: of the nodes; tables of other angles have another.
    """
    turns = rotary.angles()
    folded = turns.growth is None and context * pairs <= FOLDED
    positions = _positions(graph, inputs, context if folded else None, name)
    if turns.growth is None:
        still = np.zeros(pairs - len(turns.frequencies), np.float32)
        columns = np.concatenate([turns.frequencies, still])[None]
        frequencies = graph.constant(f"{name}/frequencies", columns, np.float32)
    else:
        frequencies = _growing(graph, inputs, turns, turns.growth, positions, name)
    angles = graph.node("Mul", [positions, frequencies], f"{name}/angles")
    tables = [graph.node(op, [angles], f"{name}/{op.lower()}") for op in ("Cos", "Sin")]
    if turns.magnitude != 1:
        magnitude = graph.constant(f"{name}/magnitude", turns.magnitude, np.float32)
        tables = [
            graph.node("Mul", [table, magnitude], f"{name}/{which}/Mul")
            for which, table in zip(("cos", "sin"), tables, strict=True)
        ]
    return tables


def _positions(graph: Graph, inputs: StepInputs, count: int | None, name: str) -> str:
    """Positions from 0 as a float32 column: ``count`` of them, or as many as the call's sequences are long."""
    longest = count is None
    stop = graph.as_float(inputs.longest()) if longest else graph.constant(f"{name}/context", count, np.float32)
    start, step = (graph.constant(f"{name}/{value}", value, np.float32) for value in (0, 1))
    row = graph.node("Range", [start, stop, step], f"{name}/Range")
    column = graph.constant(f"{name}/column", [-1, 1], np.int64)
    return graph.node("Reshape", [row, column], f"{name}/positions")


def _growing(
    graph: Graph, inputs: StepInputs, turns: Angles, growth: tuple[float, float, int, float], positions: str, name: str
) -> str:
    """Frequencies of a base that grows with the length, one row a position.

    A position is turned as at its own length, which is how generation reaches it. A prompt that begins the sequence is
    turned as at the prompt's length, all of it: transformers makes its frequencies once a call.
    """
    theta, factor, original, power = growth
    name += "/growth"

    def const(key: str, value: float) -> str:
        return graph.constant(f"{name}/{key}", value, np.float32)

    own = graph.node("Add", [positions, const("one", 1)], f"{name}/own")
    prompt = inputs.prompt(name)
    least = [] if prompt is None else [graph.as_float(prompt)]
    length = graph.node("Max", [own, *least, const("original", original)], f"{name}/length")
    stretch = graph.node("Mul", [length, const("factor", factor)], f"{name}/factor/Mul")
    stretch = graph.node("Div", [stretch, const("context", original)], f"{name}/Div")
    stretch = graph.node("Sub", [stretch, const("offset", factor - 1)], f"{name}/Sub")
    # base ^ -exponent; a logarithm a position and an exponential a pair cost a tenth of a power a pair.
    grown = graph.node("Mul", [graph.node("Log", [stretch], f"{name}/Log"), const("power", power)], f"{name}/power/Mul")
    logarithm = graph.node("Add", [grown, const("theta", math.log(theta))], f"{name}/base")
    exponents = graph.constant(f"{name}/exponents", -turns.exponents[None], np.float32)
    exponent = graph.node("Mul", [logarithm, exponents], f"{name}/exponent")
    frequencies = graph.node("Exp", [exponent], f"{name}/Exp")
    turning = np.arange(len(turns.exponents)) < turns.turning
    if turning.all():
        return frequencies
    mask = graph.constant(f"{name}/turning", turning[None], np.float32)
    return graph.node("Mul", [frequencies, mask], f"{name}/turning/Mul")
