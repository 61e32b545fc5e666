"""Mixture of experts: each token goes through the few MLPs that a router chooses for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from zoo.contracts.weights import Parameter
from zoo.operations.operation import Operation, Reference, Value


@dataclass(frozen=True, slots=True, eq=False)
class Experts(Operation):
    """Gated MLPs, silu(gate · x) · (up · x) brought down, of which each token takes the likeliest ``chosen``.

    What they make is weighed by the softmax of the router's scores over all experts; Shazeer et al., arXiv 1701.06538.
    """

    x: Value
    router: Value
    """Scores, (batch, sequence, experts)."""
    gate_up: Parameter
    """(experts, 2 · width, hidden): rows of gate and up in turn, the gate's first."""
    down: Parameter
    """(experts, hidden, width)."""
    chosen: int
    normalized: bool = True
    """The weights of the chosen add up to one; without, they are what the softmax over all gave them."""

    def features(self) -> frozenset[str]:
        return frozenset() if self.normalized else frozenset({"unnormalized"})

    def compute(self, run: Reference) -> Any:
        torch, x = run.torch, run.value(self.x)
        gate_up, down = run.weight(self.gate_up), run.weight(self.down)
        weights, chosen = run.value(self.router).softmax(-1).topk(self.chosen, -1)
        if self.normalized:
            weights = weights / weights.sum(-1, keepdim=True)
        result = torch.zeros_like(x)
        for expert in range(len(gate_up)):
            places = (chosen == expert).nonzero(as_tuple=True)
            if not len(places[0]):
                continue
            tokens = x[places[:-1]]
            gate, up = (tokens @ gate_up[expert].T).unflatten(-1, (-1, 2)).unbind(-1)
            made = (torch.nn.functional.silu(gate) * up) @ down[expert].T
            result.index_put_(places[:-1], made * weights[places][:, None], accumulate=True)
        return result
