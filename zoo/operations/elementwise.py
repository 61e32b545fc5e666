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
        if self.function in ("relu", "silu", "sigmoid", "tanh"):
            return getattr(run.torch if self.function in ("sigmoid", "tanh") else f, self.function)(x)
        if self.function == "gelu":
            return f.gelu(x)
        if self.function in ("gelu_new", "gelu_fast", "gelu_pytorch_tanh"):
            return f.gelu(x, approximate="tanh")
        if self.function == "quick_gelu":
            return x * (1.702 * x).sigmoid()
        if self.function == "relu2":
            return f.relu(x).square()
        raise ZooError(f"activation {self.function!r} is not known")


@dataclass(frozen=True, slots=True, eq=False)
class Softcap(Operation):
    """cap · tanh(x / cap)."""

    x: Value
    cap: float

    def compute(self, run: Reference) -> Any:
        return self.cap * (run.value(self.x) / self.cap).tanh()
