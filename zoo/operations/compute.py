"""Operations computed in torch, as each describes itself: the reference for every target."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

from zoo.contracts.weights import Parameter
from zoo.operations.operation import Value
from zoo.operations.program import Program
from zoo.operations.tokens import TokenIds


class TorchRun:
    """One pass over steps (the ``Reference`` protocol).

    Args:
        torch: the imported library.
        values: what is known already; results are added to it.
        weights: parameter name → tensor.
        kept: what passes share, such as rotary tables.
    """

    def __init__(
        self, torch: Any, values: dict[Value, Any], weights: Mapping[str, Any], kept: dict[Hashable, Any]
    ) -> None:
        self.torch, self.values = torch, values
        self._weights, self._kept = weights, kept

    def value(self, value: Value) -> Any:
        return self.values[value]

    def weight(self, weight: Parameter) -> Any:
        return self._weights[weight.name]

    def once(self, key: Hashable, make: Callable[[], Any]) -> Any:
        if key not in self._kept:
            self._kept[key] = make()
        return self._kept[key]


def compute_program(program: Program, token_ids: Sequence[int], weights: Mapping[str, Any]) -> Any:
    """Compute the result of a whole program for one text, in torch.

    Args:
        weights: parameter name → float32 tensor in the parameter's shape.

    Returns:
        The last step's result for every position: (length, vocab) of a language model.
    """
    import torch

    run = TorchRun(torch, {}, weights, {})
    result: Any = None
    with torch.inference_mode():
        for step in program.steps:
            known = isinstance(step.operation, TokenIds)
            result = torch.tensor([list(token_ids)]) if known else step.operation.compute(run)
            run.values[step.output] = result
    return result[0]
