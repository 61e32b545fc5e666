"""What an operation is: values and weights in, one value out, numbers beside them."""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, fields, replace
from functools import cache
from typing import Any, ClassVar, Protocol, Self

from zoo.contracts.weights import Parameter


@dataclass(frozen=True, slots=True)
class Value:
    """What an operation makes and others read: a handle, counted in the order of making."""

    number: int


class Reference(Protocol):
    """What an operation computes from, in the reference: tensors of torch, float32 unless stated."""

    torch: Any
    """The imported library."""

    def value(self, value: Value) -> Any:
        """The tensor that a value stands for."""
        ...

    def weight(self, weight: Parameter) -> Any:
        """The tensor of a weight, in the shape of its parameter."""
        ...

    def once(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """Make something that other steps use too, the first time it is asked for."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Operation:
    """The base of every operation; a field that is a ``Value`` is an input, one that is a ``Parameter`` a weight.

    Hidden states are (batch, sequence, width). The name of an operation is that of its class: ``RmsNorm`` is
    ``rms_norm`` to a target and in messages.
    """

    kind: ClassVar[str] = "operation"

    def __init_subclass__(cls, **options: Any) -> None:
        object.__init_subclass__(**options)
        cls.kind = re.sub(r"(?<=.)(?=[A-Z])", "_", cls.__name__).lower()

    @property
    def inputs(self) -> tuple[Value, ...]:
        """The values that are read, in the order of the fields."""
        return tuple(field for field in self._fields() if isinstance(field, Value))

    @property
    def weights(self) -> tuple[Parameter, ...]:
        """The weights that are read, in the order of the fields."""
        return tuple(field for field in self._fields() if isinstance(field, Parameter))

    def reading(self, instead: Mapping[Value, Value]) -> Self:
        """The same operation on other values."""
        changed = {
            field.name: instead[value]
            for field in fields(self)
            if isinstance(value := getattr(self, field.name), Value) and value in instead
        }
        return replace(self, **changed)

    def features(self) -> frozenset[str]:
        """Name what this use of the operation needs beyond its plain form; a target may lack it."""
        return frozenset()

    def width(self, of: Callable[[Value], int]) -> int:
        """The size of the result's last axis; by default that of the first input.

        Args:
            of: the same of an input.
        """
        return of(self.inputs[0])

    def compute(self, run: Reference) -> Any:
        """Compute the result in torch."""
        raise NotImplementedError(self.kind)

    def _fields(self) -> tuple[Any, ...]:
        kind: Any = type(self)  # mypy takes an instance's hash for the class's
        return tuple([getattr(self, name) for name in _field_names(kind)])


@cache
def _field_names(kind: type[Operation]) -> tuple[str, ...]:
    return tuple(field.name for field in fields(kind))
