"""What an architecture composes and a target implements: each operation described once, as a class.

A class of this package states an operation's inputs, weights and numbers, which of its features an instance uses, and
what it computes, in torch. From it follow the methods that an architecture composes with (``GraphOps``), the list that
a target is matched against (``lacking``), the calibration's execution, and what drawings and memory estimates show.
A target adds the one thing that is its own: how to emit it.
"""

from zoo.operations.attention import Attention, JoinHeads, NormHeads
from zoo.operations.elementwise import Activation, Add, Multiply, Scale, Softcap
from zoo.operations.experts import ExpertGroups, Experts
from zoo.operations.linear import Embedding, Linear
from zoo.operations.matching import Needs, lacking, missing
from zoo.operations.norms import LayerNorm, RmsNorm
from zoo.operations.operation import Operation, Reference, Value
from zoo.operations.program import Program, Step, with_lookup_scales
from zoo.operations.record import GraphOps, record
from zoo.operations.rotary import Angles, Rotary
from zoo.operations.tokens import (
    FirstPosition,
    HiddenStates,
    LastPositions,
    Logits,
    Positions,
    Scores,
    TokenIds,
    TokenTypes,
)

__all__ = [
    "Activation",
    "Add",
    "Angles",
    "Attention",
    "Embedding",
    "ExpertGroups",
    "Experts",
    "FirstPosition",
    "GraphOps",
    "HiddenStates",
    "JoinHeads",
    "LastPositions",
    "LayerNorm",
    "Linear",
    "Logits",
    "Multiply",
    "Needs",
    "NormHeads",
    "Operation",
    "Positions",
    "Program",
    "Reference",
    "RmsNorm",
    "Rotary",
    "Scale",
    "Scores",
    "Softcap",
    "Step",
    "TokenIds",
    "TokenTypes",
    "Value",
    "lacking",
    "missing",
    "record",
    "with_lookup_scales",
]
