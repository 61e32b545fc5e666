"""Program → nodes of a graph: each operation by the function that emits it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from zoo.contracts import Parameter
from zoo.declarations.scheme import Scheme
from zoo.errors import ZooError
from zoo.operations import Add, Operation, Program, RmsNorm, Step, Value
from zoo.targets.ort.graph import Graph
from zoo.targets.ort.inputs import StepInputs

Kind = TypeVar("Kind", bound=Operation)
EMITTERS: dict[type[Operation], Callable[[Emission, Step, Any], str]] = {}
"""Operation → the function that adds its nodes and returns the name of the result."""


def emits(kind: type[Kind]) -> Callable[[Callable[[Emission, Step, Kind], str]], Callable[[Emission, Step, Kind], str]]:
    """Register the function that emits an operation."""

    def register(function: Callable[[Emission, Step, Kind], str]) -> Callable[[Emission, Step, Kind], str]:
        EMITTERS[kind] = function
        return function

    return register


class Emission:
    """A program on its way into a graph; a value is the name of a tensor.

    Args:
        graph: what grows.
        inputs: how a step of generation enters it.
        schemes: how each weight is stored.
        accuracy_level: of MatMulNBits.
    """

    def __init__(
        self,
        program: Program,
        graph: Graph,
        inputs: StepInputs,
        schemes: Mapping[str, Scheme],
        accuracy_level: int,
    ) -> None:
        self.program, self.graph, self.inputs = program, graph, inputs
        self.schemes, self.accuracy_level = schemes, accuracy_level
        self.once: dict[Any, Any] = {}
        """What several steps share, by a key of the function that makes it."""
        self._names: dict[Value, str] = {}

    def run(self) -> None:
        """Add every step.

        Raises:
            ZooError: an operation has no function here.
        """
        steps = self.program.steps
        for step, after in zip(steps, [*steps[1:], None], strict=True):
            if self._fused(step, after):
                continue
            emit = EMITTERS.get(type(step.operation))
            if emit is None:
                raise ZooError(f"target 'ort' lacks: {step.operation.kind}")
            self._names[step.output] = emit(self, step, step.operation)

    def value(self, value: Value) -> str:
        """The tensor that a value became."""
        return self._names[value]

    def set_value(self, value: Value, name: str) -> None:
        """State the tensor of a value whose step was passed over."""
        self._names[value] = name

    def scheme(self, weight: Parameter) -> Scheme:
        """How a weight is stored."""
        return self.schemes[weight.name]

    @staticmethod
    def _fused(step: Step, after: Step | None) -> bool:
        """Tell whether a sum is computed by the norm that follows it."""
        return (
            isinstance(step.operation, Add)
            and after is not None
            and isinstance(after.operation, RmsNorm)
            and after.operation.x == step.output
        )

    def sum_before(self, step: Step) -> Add | None:
        """The sum that a norm has to compute too, because ``run`` passed it over."""
        before = self.program.steps[step.output.number - 1] if step.output.number else None
        if before is not None and self._fused(before, step):
            assert isinstance(before.operation, Add)
            return before.operation
        return None
