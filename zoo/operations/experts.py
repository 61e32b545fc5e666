"""Mixture of experts: each token goes through the few MLPs that a router chooses for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from zoo.contracts.weights import Parameter
from zoo.operations.operation import Operation, Reference, Value


@dataclass(frozen=True, slots=True)
class ExpertGroups:
    """Experts in groups of as many each; a token's are chosen from its likeliest groups (arXiv 2405.04434, 2.2.2)."""

    count: int
    chosen: int
    best: int
    """A group is as likely as so many of its likeliest experts together."""


@dataclass(frozen=True, slots=True, eq=False)
class Experts(Operation):
    """Gated MLPs, swish(gate · x) · (up · x + offset) brought down, of which each token takes the likeliest ``chosen``.

    What they make is weighed by the softmax of the router's scores over all experts, or by their sigmoid; Shazeer et
    al., arXiv 1701.06538; DeepSeek-AI, arXiv 2412.19437, 2.1.2.
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
    """The weights of the chosen add up to one; without, they are what the function over all gave them."""
    sigmoid: bool = False
    """Weights are the sigmoid of each score by itself."""
    bias: Parameter | None = None
    """(experts,): added to the weights where experts and groups are chosen, and nowhere else."""
    groups: ExpertGroups | None = None
    gate_up_bias: Parameter | None = None
    """(experts, 2 · width)"""
    down_bias: Parameter | None = None
    """(experts, hidden)"""
    alpha: float = 1.0
    """swish(g) is g · sigmoid(alpha · g)."""
    offset: float = 0.0
    limit: float | None = None
    """The gate is at most so large, and the way up so far from 0."""

    def features(self) -> frozenset[str]:
        used = {
            "unnormalized": not self.normalized,
            "sigmoid": self.sigmoid,
            "biased choice": self.bias is not None,
            "groups": self.groups is not None,
            "biases": self.gate_up_bias is not None or self.down_bias is not None,
            "other gate": (self.alpha, self.offset, self.limit) != (1.0, 0.0, None),
        }
        return frozenset(name for name, needed in used.items() if needed)

    def likely(self, run: Reference) -> Any:
        """The weight of every expert for each token, before any is chosen, (batch, sequence, experts)."""
        scores = run.value(self.router)
        return scores.sigmoid() if self.sigmoid else scores.softmax(-1)

    def route(self, run: Reference) -> tuple[Any, Any]:
        """Choose: the weights of each token's experts and which they are, both (batch, sequence, chosen)."""
        likely = self.likely(run)
        choice = likely if self.bias is None else likely + run.weight(self.bias)
        if self.groups is not None:
            grouped = choice.unflatten(-1, (self.groups.count, -1))
            best = grouped.topk(self.groups.best, -1).values.sum(-1).topk(self.groups.chosen, -1).indices
            out = run.torch.ones(grouped.shape[:-1], dtype=run.torch.bool, device=grouped.device).scatter(-1, best, 0)
            choice = grouped.masked_fill(out[..., None], float("-inf")).flatten(-2)
        chosen = choice.topk(self.chosen, -1).indices
        weights = likely.gather(-1, chosen)
        return weights / weights.sum(-1, keepdim=True) if self.normalized else weights, chosen

    def raised(self, run: Reference, expert: int, x: Any, gate_up: Any) -> Any:
        """What an expert of this gate and way up brings down of tokens (n, hidden), (n, width)."""
        both = x @ gate_up.T
        if self.gate_up_bias is not None:
            both = both + run.weight(self.gate_up_bias)[expert]
        gate, up = both.unflatten(-1, (-1, 2)).unbind(-1)
        if self.limit is not None:
            gate, up = gate.clamp(max=self.limit), up.clamp(-self.limit, self.limit)
        return gate * (self.alpha * gate).sigmoid() * (up + self.offset)

    def brought_down(self, run: Reference, expert: int, raised: Any, down: Any) -> Any:
        """What an expert makes of that, (n, hidden)."""
        made = raised @ down.T
        return made if self.down_bias is None else made + run.weight(self.down_bias)[expert]

    def compute(self, run: Reference) -> Any:
        torch, x = run.torch, run.value(self.x)
        gate_up, down = run.weight(self.gate_up), run.weight(self.down)
        weights, chosen = self.route(run)
        result = torch.zeros_like(x)
        for expert in range(len(gate_up)):
            places = (chosen == expert).nonzero(as_tuple=True)
            if not len(places[0]):
                continue
            raised = self.raised(run, expert, x[places[:-1]], gate_up[expert])
            made = self.brought_down(run, expert, raised, down[expert])
            result.index_put_(places[:-1], made * weights[places][:, None], accumulate=True)
        return result
