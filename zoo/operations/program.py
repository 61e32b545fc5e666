"""A computation as a list of steps, as an architecture composed it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TypeVar

from zoo.contracts.weights import Parameter, RowSlice
from zoo.operations.attention import Attention
from zoo.operations.linear import Embedding, Linear
from zoo.operations.operation import Operation, Value
from zoo.operations.tokens import Logits, TokenIds

Kind = TypeVar("Kind", bound=Operation)


@dataclass(frozen=True, slots=True)
class Step:
    """An operation in its place."""

    name: str
    """Its name in a graph, for example ``/model/layers.0/mlp/gate_proj``."""
    operation: Operation
    output: Value
    layer: int | None
    """The layer that it is of; None before the first and after the last."""


@dataclass(frozen=True)
class Program:
    """What an architecture computes: steps in an order in which they can be computed."""

    steps: tuple[Step, ...]

    @cached_property
    def num_layers(self) -> int:
        """Count the layers."""
        return 1 + max((step.layer for step in self.steps if step.layer is not None), default=-1)

    def all(self, kind: type[Kind]) -> Iterator[Kind]:
        """List the operations of a kind, in order."""
        return (step.operation for step in self.steps if isinstance(step.operation, kind))

    def step(self, value: Value) -> Step:
        """The step that makes a value."""
        return self.steps[value.number]

    def width(self, value: Value) -> int:
        """The size of a value's last axis."""
        return self._widths[value.number]

    @cached_property
    def _widths(self) -> list[int]:
        """The widths of all results, step by step: a chain of a thousand steps does not become a chain of calls."""
        widths: list[int] = []
        for step in self.steps:
            widths.append(step.operation.width(lambda value: widths[value.number]))
        return widths

    def readers(self, value: Value) -> list[Step]:
        """The steps that read a value."""
        return [step for step in self.steps if value in step.operation.inputs]

    @cached_property
    def kv_values_per_token(self) -> int:
        """Count the numbers that one token takes in the KV caches of all layers; what generates nothing keeps none."""
        return self.generates * sum(
            2 * attention.num_kv_heads * attention.head_dim for attention in self.all(Attention) if attention.causal
        )

    @cached_property
    def generates(self) -> bool:
        """Whether the result is logits of a next token, which a KV cache of what came before makes cheap."""
        return any(True for _ in self.all(Logits))

    @cached_property
    def context(self) -> int:
        """Positions that are served."""
        return next(self.all(TokenIds)).context


def with_lookup_scales(program: Program) -> Program:
    """Let rows of an embedding that is the output head too be multiplied by a vector of its own as they are looked up.

    The columns of the head may then be rescaled, and what is looked up stays what it was. The vector is a derived
    weight, ``….channels`` beside the embedding's.
    """
    heads = {linear.weight.name for linear in program.all(Linear)}

    def scaled(step: Step) -> Step:
        operation = step.operation
        if not isinstance(operation, Embedding) or operation.weight.name not in heads:
            return step
        name = f"{operation.weight.name.removesuffix('.weight')}.channels"
        rows = RowSlice(name, (operation.weight.shape[-1],))
        channels = Parameter(name, "norm", (rows,), role="embed_tokens.channels", derived=True)
        return replace(step, operation=replace(operation, channels=channels))

    return Program(tuple(scaled(step) for step in program.steps))
