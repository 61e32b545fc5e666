"""Record what an architecture composes into a program."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Concatenate, Generic, ParamSpec, overload

from zoo.contracts.architecture import ArchitecturePart
from zoo.declarations.architecture import Architecture
from zoo.errors import ZooError
from zoo.operations.attention import Attention, JoinHeads, NormHeads
from zoo.operations.elementwise import Activation, Add, Multiply, Scale, Softcap
from zoo.operations.experts import Experts
from zoo.operations.linear import Embedding, Linear
from zoo.operations.norms import LayerNorm, RmsNorm
from zoo.operations.operation import Operation, Value
from zoo.operations.program import Program, Step
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

P = ParamSpec("P")


class Composed(Generic[P]):
    """A method of ``GraphOps`` that adds one operation: a name, then the operation's own fields."""

    def __init__(self, kind: Callable[P, Operation]) -> None:
        self._kind = kind
        self.__doc__ = kind.__doc__

    @overload
    def __get__(self, ops: None, owner: type[GraphOps]) -> Composed[P]: ...
    @overload
    def __get__(self, ops: GraphOps, owner: type[GraphOps]) -> Callable[Concatenate[str, P], Value]: ...
    def __get__(self, ops: GraphOps | None, owner: type[GraphOps]) -> Any:
        if ops is None:
            return self

        def compose(name: str, /, *args: P.args, **kwargs: P.kwargs) -> Value:
            return ops.add_operation(name, self._kind(*args, **kwargs))

        return compose


class GraphOps:
    """What an architecture's ``forward`` composes with: each method adds one operation and returns its result.

    A method takes a name, then the fields of the operation's class; ``ops.rms_norm("norm", x, weight, eps)``. Names
    are relative to ``/model``, inside ``layer`` to ``/model/layers.N``; one that begins with ``/`` stays as it is.
    """

    def __init__(self) -> None:
        self._steps: list[Step] = []
        self._names: set[tuple[str, str]] = set()
        self._layer: int | None = None
        self._layers = 0

    def tokens(self, context: int) -> Value:
        """The input token ids, int64 (batch, sequence); ``context`` positions are served."""
        return self.add_operation("input_ids", TokenIds(context))

    token_types = Composed(TokenTypes)
    positions = Composed(Positions)

    embedding = Composed(Embedding)
    linear = Composed(Linear)
    rms_norm = Composed(RmsNorm)
    layer_norm = Composed(LayerNorm)
    norm_heads = Composed(NormHeads)
    join_heads = Composed(JoinHeads)
    attention = Composed(Attention)
    experts = Composed(Experts)
    activation = Composed(Activation)
    add = Composed(Add)
    multiply = Composed(Multiply)
    scale = Composed(Scale)
    softcap = Composed(Softcap)
    last_positions = Composed(LastPositions)
    first_position = Composed(FirstPosition)

    def logits(self, x: Value) -> Value:
        """Declare the result of a language model, float (batch, positions, vocabulary)."""
        return self.add_operation("logits", Logits(x))

    def scores(self, x: Value) -> Value:
        """Declare the result of a classifier, float (batch, labels)."""
        return self.add_operation("scores", Scores(x))

    def hidden_states(self, x: Value) -> Value:
        """Declare the result of an encoder, float (batch, sequence, width)."""
        return self.add_operation("hidden_states", HiddenStates(x))

    @contextmanager
    def layer(self, index: int) -> Iterator[None]:
        """Compose layer ``index``; exactly one value goes from a layer to the next.

        Raises:
            ZooError: layers do not come in order, one inside or after the other.
        """
        if self._layer is not None or index != self._layers:
            raise ZooError(f"an architecture composes layer {index} where layer {self._layers} is due; it is defective")
        self._layer, self._layers = index, self._layers + 1
        try:
            yield
        finally:
            self._layer = None

    def add_operation(self, name: str, operation: Operation) -> Value:
        """Add any operation, one of a plugin's own too.

        Raises:
            ZooError: another operation of its kind has this name, or an input is not a result of this computation.
        """
        prefix = "/model/" if self._layer is None else f"/model/layers.{self._layer}/"
        full = name if name.startswith("/") else prefix + name
        if (full, operation.kind) in self._names:
            raise ZooError(f"an architecture composes two operations named {full!r}; it is defective")
        if not all(isinstance(value, Value) and value.number < len(self._steps) for value in operation.inputs):
            raise ZooError(f"{full}: an architecture composes it from values that it did not make; it is defective")
        self._names.add((full, operation.kind))
        output = Value(len(self._steps))
        self._steps.append(Step(full, operation, output, self._layer))
        return output

    def program(self) -> Program:
        """What was composed so far."""
        return Program(tuple(self._steps))


def record(architecture: ArchitecturePart, arch: Architecture, head_multiple: int = 1) -> Program:
    """Let an architecture compose its computation, once.

    Raises:
        ZooError: it composes something that is not a computation.
    """
    ops = GraphOps()
    architecture.forward(arch, ops, head_multiple)
    return ops.program()
