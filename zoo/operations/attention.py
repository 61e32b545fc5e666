"""Attention over packed queries, keys and values, and norms of their heads."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from zoo.contracts.weights import Parameter
from zoo.operations.norms import normalized
from zoo.operations.operation import Operation, Reference, Value
from zoo.operations.rotary import Rotary


@dataclass(frozen=True, slots=True, eq=False)
class NormHeads(Operation):
    """A norm of each head of q and of k in packed (q, k, v); v stays.

    Weights are (head_dim,), the same for every head, or (heads · head_dim,), one a head; None multiplies by nothing.
    """

    qkv: Value
    q_weight: Parameter | None
    k_weight: Parameter | None
    eps: float
    num_heads: int
    num_kv_heads: int
    head_dim: int
    centered: bool = False
    """LayerNorm; without, RMSNorm."""
    together: bool = False
    """One norm over all heads of q, and one over all of k."""

    def features(self) -> frozenset[str]:
        shapes = [weight.shape for weight in (self.q_weight, self.k_weight) if weight is not None]
        used = {
            "centered": self.centered,
            "together": self.together,
            "without weight": len(shapes) < 2,
            "weight a head": any(shape != (self.head_dim,) for shape in shapes),
        }
        return frozenset(name for name, needed in used.items() if needed)

    def compute(self, run: Reference) -> Any:
        parts = list(run.value(self.qkv).split(packed(self), -1))
        for index, weight in enumerate((self.q_weight, self.k_weight)):
            x = parts[index] if self.together else parts[index].unflatten(-1, (-1, self.head_dim))
            x = normalized(run.torch, x, self.eps, centered=self.centered)
            if self.together:
                x = x.unflatten(-1, (-1, self.head_dim))
            if weight is not None:
                x = x * run.weight(weight).reshape(-1, self.head_dim)
            parts[index] = x.flatten(-2)
        return run.torch.cat(parts, -1)


@dataclass(frozen=True, slots=True, eq=False)
class JoinHeads(Operation):
    """Packed (q, k, v) where every head's key begins with the same values, ``shared``, and goes on with its own."""

    q: Value
    shared: Value
    """(batch, sequence, width), narrower than ``head_dim``."""
    k: Value
    """(batch, sequence, num_kv_heads · (head_dim - width))"""
    v: Value
    num_heads: int
    num_kv_heads: int
    head_dim: int

    def width(self, of: Callable[[Value], int]) -> int:
        return sum(packed(self))

    def compute(self, run: Reference) -> Any:
        torch, own = run.torch, run.value(self.k).unflatten(-1, (self.num_kv_heads, -1))
        shared = run.value(self.shared)[..., None, :].expand(*own.shape[:-1], -1)
        keys = torch.cat([shared, own], -1).flatten(-2)
        return torch.cat([run.value(self.q), keys, run.value(self.v)], -1)


@dataclass(frozen=True, slots=True, eq=False)
class Attention(Operation):
    """Attention over packed (q, k, v); with ``causal``, over the KV cache of the layer that it stands in too.

    Query head h reads head ``h // (num_heads / num_kv_heads)`` of keys and values.
    """

    qkv: Value
    num_heads: int
    num_kv_heads: int
    head_dim: int
    scale: float
    """The scores q · k are multiplied by it."""
    rotary: Rotary | None = None
    window: int | None = None
    """A token sees itself and the ``window - 1`` before it; None sees all."""
    softcap: float | None = None
    """Scores become cap · tanh(score / cap)."""
    sinks: Parameter | None = None
    """(num_heads,): a score a head that takes part in the softmax and adds no value."""
    smooth: bool = False
    """The same with a score of 0: the softmax adds one to its denominator."""
    slopes: tuple[float, ...] | None = None
    """One a head: a score loses the slope for each token between query and key (ALiBi, arXiv 2108.12409)."""
    causal: bool = True
    """Tokens see those before them; without, all tokens of their text, and nothing is cached."""

    def features(self) -> frozenset[str]:
        used = {
            "window": self.window is not None,
            "softcap": self.softcap is not None,
            "sinks": self.sinks is not None,
            "smooth softmax": self.smooth,
            "slopes": self.slopes is not None,
            "bidirectional": not self.causal,
        }
        turned = frozenset() if self.rotary is None else self.rotary.features()
        # A kernel that sees the whole text is another one, and what it can do besides is another question.
        beside = "" if self.causal else "bidirectional "
        return turned | {name if name == "bidirectional" else beside + name for name, needed in used.items() if needed}

    def width(self, of: Callable[[Value], int]) -> int:
        return self.num_heads * self.head_dim

    def compute(self, run: Reference) -> Any:
        qkv, torch = run.value(self.qkv), run.torch
        batch, length, _ = qkv.shape
        # (batch, heads, length, head_dim)
        q, k, v = (
            part.reshape(batch, length, -1, self.head_dim).transpose(1, 2) for part in qkv.split(packed(self), -1)
        )
        if self.rotary is not None:
            q, k = self.rotary.turn(torch, q), self.rotary.turn(torch, k)
        if self.num_heads != self.num_kv_heads:
            k, v = (part.repeat_interleave(self.num_heads // self.num_kv_heads, 1) for part in (k, v))
        plain = self.softcap is None and self.sinks is None and not self.smooth and self.slopes is None
        unseen = run.once(("unseen", self.causal, self.window, length, qkv.device), lambda: self._unseen(torch, qkv))
        if plain and self.causal and (self.window is None or self.window >= length):
            mixed = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True, scale=self.scale)
        elif plain:
            mixed = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=~unseen, scale=self.scale)
        else:
            mixed = self._mixed(run, q @ k.transpose(-1, -2) * self.scale, v, unseen)
        return mixed.transpose(1, 2).reshape(batch, length, self.num_heads * self.head_dim)

    def _mixed(self, run: Reference, scores: Any, v: Any, unseen: Any) -> Any:
        """Softmax and mix with what torch's own attention has no argument for; scores are (batch, heads, n, n)."""
        torch, length = run.torch, scores.shape[-1]
        if self.softcap is not None:
            scores = self.softcap * (scores / self.softcap).tanh()
        if self.slopes is not None:
            steps = torch.arange(length, device=scores.device)
            slopes = torch.tensor(self.slopes, device=scores.device, dtype=torch.float32)
            scores = scores - slopes[:, None, None] * (steps[:, None] - steps).abs()
        scores = scores.masked_fill(unseen, float("-inf"))
        if self.sinks is not None or self.smooth:
            sinks = run.weight(self.sinks) if self.sinks is not None else torch.zeros(self.num_heads)
            column = sinks.to(scores)[:, None, None].expand(len(scores), -1, length, 1)
            scores = torch.cat([scores, column], -1)
        return scores.softmax(-1)[..., :length] @ v

    def _unseen(self, torch: Any, qkv: Any) -> Any:
        """Which keys (columns) a query (row) does not see."""
        length = qkv.shape[1]
        ones = torch.ones(length, length, dtype=torch.bool, device=qkv.device)
        seen = ones.tril() if self.causal else ones
        if self.window is not None:
            seen = seen & ones.triu(1 - self.window)
            if not self.causal:
                seen = seen & ones.tril(self.window - 1)
        return ~seen


def packed(heads: Attention | NormHeads | JoinHeads) -> list[int]:
    """The widths of q, k and v where they lie packed in one value."""
    q, kv = heads.num_heads * heads.head_dim, heads.num_kv_heads * heads.head_dim
    return [q, kv, kv]
