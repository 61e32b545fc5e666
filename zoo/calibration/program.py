"""An architecture's computation as a list of operations, cut where one decoder layer ends and the next begins.

The architecture is asked once to compose itself (``ArchitecturePart.forward``); what it says is written down and run
again and again, a layer at a time, with whatever weights that layer has by then. So no architecture is described twice.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from zoo.contracts import ArchitecturePart, Parameter
from zoo.declarations.architecture import Architecture
from zoo.errors import ZooError


@dataclass(frozen=True, slots=True)
class Op:
    """One operation: values are numbered, ``inputs`` → ``output``."""

    kind: str
    inputs: tuple[int, ...]
    output: int
    weight: Parameter | None = None
    bias: Parameter | None = None
    """A second weight: a bias, or that of k beside q's."""
    attributes: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Segment:
    """The operations of one decoder layer, or of what comes before the first or after the last."""

    ops: tuple[Op, ...]
    entry: int
    """The value that enters."""
    exit: int
    """The value that leaves."""

    @property
    def groups(self) -> list[tuple[Parameter, ...]]:
        """The linears that read one value each time, in the order of use; each group shares its inputs' statistics."""
        found: dict[int, list[Parameter]] = {}
        for op in self.ops:
            if op.kind == "linear" and op.weight is not None:
                found.setdefault(op.inputs[0], []).append(op.weight)
        return [tuple(one) for one in found.values()]

    def producer(self, value: int) -> Op | None:
        """The operation that makes a value, where it is of this segment."""
        return next((op for op in self.ops if op.output == value), None)

    def users(self, value: int) -> list[Op]:
        """The operations of this segment that read a value."""
        return [op for op in self.ops if value in op.inputs]


@dataclass(frozen=True, slots=True)
class Program:
    """A whole computation: ``before`` (the embedding), the layers, ``after`` (final norm and head)."""

    before: Segment
    layers: tuple[Segment, ...]
    after: Segment


class Recorder:
    """Writes down what an architecture composes (the ``GraphOps`` protocol); a value is a number."""

    def __init__(self) -> None:
        self.ops: list[Op] = []
        self._values = 1

    def tokens(self) -> int:
        return 0

    def embedding(self, name: str, ids: int, weight: Parameter) -> int:
        return self._op("embedding", (ids,), weight)

    def rms_norm(self, name: str, x: int, weight: Parameter, eps: float) -> int:
        return self._op("rms_norm", (x,), weight, eps=eps)

    def add_rms_norm(self, name: str, x: int, residual: int, weight: Parameter, eps: float) -> tuple[int, int]:
        # The sum belongs to the layer that ends here: then one value alone goes from layer to layer.
        total = self._op("add", (x, residual))
        return self._op("rms_norm", (total,), weight, eps=eps), total

    def linear(self, name: str, x: int, weight: Parameter, bias: Parameter | None = None) -> int:
        return self._op("linear", (x,), weight, bias)

    def attention(self, name: str, qkv: int, **attributes: Any) -> int:
        return self._op("attention", (qkv,), **attributes)

    def norm_heads(
        self, name: str, qkv: int, q_weight: Parameter, k_weight: Parameter, eps: float, **heads: int
    ) -> int:
        return self._op("norm_heads", (qkv,), q_weight, k_weight, eps=eps, **heads)

    def scale(self, name: str, x: int, factor: float) -> int:
        return self._op("scale", (x,), factor=factor)

    def activation(self, name: str, kind: str, x: int) -> int:
        return self._op("activation", (x,), function=kind)

    def multiply(self, name: str, a: int, b: int) -> int:
        return self._op("multiply", (a, b))

    def add(self, name: str, a: int, b: int) -> int:
        return self._op("add", (a, b))

    def last_positions(self, name: str, x: int) -> int:
        return x  # every position is wanted

    def logits(self, x: int) -> None: ...

    def _op(
        self,
        kind: str,
        inputs: tuple[int, ...],
        weight: Parameter | None = None,
        bias: Parameter | None = None,
        **attributes: Any,
    ) -> int:
        output = self._values
        self._values += 1
        self.ops.append(Op(kind, inputs, output, weight, bias, attributes))
        return output


def record(architecture: ArchitecturePart, arch: Architecture, head_multiple: int) -> Program:
    """Write a computation down and cut it into layers.

    Raises:
        ZooError: more than one value goes from a layer to the next, or the layers do not come in order.
    """
    recorder = Recorder()
    architecture.forward(arch, recorder, head_multiple)
    count = arch.num_hidden_layers
    cut: list[list[Op]] = [[] for _ in range(count + 2)]
    at = 0
    for op in recorder.ops:
        layer = op.weight.layer if op.weight is not None else op.attributes.get("layer")
        if layer is not None:
            at = _forward_only(at, layer + 1, arch)
        elif op.weight is not None and at == count:
            at = count + 1
        cut[at].append(op)
    segments = list(_segments(cut, arch))
    return Program(segments[0], tuple(segments[1:-1]), segments[-1])


def _forward_only(at: int, to: int, arch: Architecture) -> int:
    if to not in (at, at + 1):
        raise ZooError(f"architecture {arch.type!r} goes from layer {at - 1} to {to - 1}; it cannot be calibrated")
    return to


def _segments(cut: list[list[Op]], arch: Architecture) -> Iterator[Segment]:
    entry = 0
    for index, ops in enumerate(cut):
        made = {op.output for part in cut[: index + 1] for op in part}
        later = {value for part in cut[index + 1 :] for op in part for value in op.inputs}
        alive = sorted(made & later)
        last = index == len(cut) - 1
        if not ops or (not last and len(alive) != 1):
            raise ZooError(
                f"architecture {arch.type!r} hands {len(alive)} values from one layer to the next; "
                "calibration follows exactly one"
            )
        leaving = ops[-1].output if last else alive[0]
        yield Segment(tuple(ops), entry, leaving)
        entry = leaving
