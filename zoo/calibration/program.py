"""A recorded computation cut where one layer ends and the next begins.

Each piece is run again and again with whatever weights its layer has by then.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from zoo.contracts import Parameter
from zoo.errors import ZooError
from zoo.operations import Experts, LastPositions, Linear, Program, Step, Value


@dataclass(frozen=True, slots=True)
class Segment:
    """The steps of one layer, or of what comes before the first or after the last."""

    steps: tuple[Step, ...]
    entry: Value
    """The value that enters."""
    exit: Value
    """The value that leaves."""

    @property
    def weights(self) -> dict[str, Parameter]:
        """Every weight that is used, by name."""
        return {weight.name: weight for step in self.steps for weight in step.operation.weights}

    @property
    def groups(self) -> list[tuple[Parameter, ...]]:
        """The linears that read one value each time, in the order of use; each group shares its inputs' statistics."""
        groups: dict[Value, list[Parameter]] = {}
        for step in self.steps:
            if isinstance(step.operation, Linear):
                groups.setdefault(step.operation.x, []).append(step.operation.weight)
        return [tuple(group) for group in groups.values()]

    @property
    def experts(self) -> Experts | None:
        """The mixture that tokens go through, one expert after the other; None where there is none.

        Raises:
            ZooError: more than one, or a linear that reads what it makes.
        """
        found, made = None, set[Value]()
        for step in self.steps:
            later = not made.isdisjoint(step.operation.inputs)
            if isinstance(step.operation, Experts) and found is None:
                found = step.operation
            elif isinstance(step.operation, Experts) or (later and isinstance(step.operation, Linear)):
                raise ZooError(f"{step.name}: calibration follows one mixture of experts a layer, after its linears")
            if later or step.operation is found:
                made.add(step.output)
        return found

    def producer(self, value: Value) -> Step | None:
        """The step that makes a value, where it is of this segment."""
        return next((step for step in self.steps if step.output == value), None)

    def readers(self, value: Value) -> list[Step]:
        """The steps of this segment that read a value."""
        return [step for step in self.steps if value in step.operation.inputs]


@dataclass(frozen=True, slots=True)
class Segments:
    """A whole computation: ``before`` (the embedding), the layers, ``after`` (final norm and head)."""

    before: Segment
    layers: tuple[Segment, ...]
    after: Segment


def cut(program: Program) -> Segments:
    """Cut a computation into its layers.

    Raises:
        ZooError: more than one value goes from a layer to the next, or there is no layer.
    """
    pieces: list[list[Step]] = [[] for _ in range(program.num_layers + 2)]
    at = 0
    for step in _every_position(program.steps):
        if step.layer is not None:
            at = step.layer + 1
        elif at > 0:
            at = program.num_layers + 1
        pieces[at].append(step)
    segments = list(_segments(pieces))
    return Segments(segments[0], tuple(segments[1:-1]), segments[-1])


def _every_position(steps: Sequence[Step]) -> Iterator[Step]:
    """Leave out what keeps some positions only, so that a linear is seen to read what really made its input."""
    same: dict[Value, Value] = {}
    for step in steps:
        operation = step.operation
        if isinstance(operation, LastPositions):
            same[step.output] = same.get(operation.x, operation.x)
        elif any(value in same for value in operation.inputs):
            yield replace(step, operation=operation.reading(same))
        else:
            yield step


def _segments(pieces: Sequence[Sequence[Step]]) -> Iterator[Segment]:
    entry = pieces[0][0].output if pieces[0] else Value(0)
    made: set[Value] = set()
    for index, steps in enumerate(pieces):
        made |= {step.output for step in steps}
        later = {value for piece in pieces[index + 1 :] for step in piece for value in step.operation.inputs}
        alive = made & later
        last = index == len(pieces) - 1
        if not steps or (not last and len(alive) != 1):
            raise ZooError(
                f"the architecture hands {len(alive)} values from one layer to the next; "
                "calibration follows exactly one"
            )
        leaving = steps[-1].output if last else alive.pop()
        yield Segment(tuple(steps), entry, leaving)
        entry = leaving
