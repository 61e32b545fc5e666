"""Operations that take each number by itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from zoo.errors import ZooError
from zoo.operations.operation import Operation, Reference, Value


@dataclass(frozen=True, slots=True, eq=False)
class Add(Operation):
    """a + b. A residual connection has the residual first."""

    a: Value
    b: Value

    def compute(self, run: Reference) -> Any:
        return run.value(self.a) + run.value(self.b)


@dataclass(frozen=True, slots=True, eq=False)
class Multiply(Operation):
    """a · b."""

    a: Value
    b: Value

    def compute(self, run: Reference) -> Any:
        return run.value(self.a) * run.value(self.b)


@dataclass(frozen=True, slots=True, eq=False)
class Scale(Operation):
    """x · factor, the factor rounded to float32."""

    x: Value
    factor: float

    def compute(self, run: Reference) -> Any:
        return run.value(self.x) * self.factor


@dataclass(frozen=True, slots=True, eq=False)
class Activation(Operation):
    """A function by its ``hidden_act`` name, which is the feature that a target must have."""

    x: Value
    function: str

    def features(self) -> frozenset[str]:
        return frozenset({self.function})

    def compute(self, run: Reference) -> Any:
        x, f = run.value(self.x), run.torch.nn.functional
        if self.function == "silu":
            return f.silu(x)
        if self.function == "relu":
            return f.relu(x)
        if self.function in ("gelu", "gelu_new", "gelu_pytorch_tanh"):
            return f.gelu(x, approximate="none" if self.function == "gelu" else "tanh")
        raise ZooError(f"activation {self.function!r} is not known")
