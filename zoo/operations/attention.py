"""Attention over packed queries, keys and values, and norms of their heads."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from zoo.contracts.weights import Parameter
from zoo.operations.norms import rms
from zoo.operations.operation import Operation, Reference, Value
from zoo.operations.rotary import Rotary


@dataclass(frozen=True, slots=True, eq=False)
class NormHeads(Operation):
    """RMSNorm of each head of q and of k in packed (q, k, v); the weights are (head_dim,). v stays."""

    qkv: Value
    q_weight: Parameter
    k_weight: Parameter
    eps: float
    num_heads: int
    num_kv_heads: int
    head_dim: int

    def compute(self, run: Reference) -> Any:
        parts = list(run.value(self.qkv).split(packed(self), -1))
        for index, weight in enumerate((self.q_weight, self.k_weight)):
            x = parts[index].unflatten(-1, (-1, self.head_dim))
            parts[index] = (rms(run.torch, x, self.eps) * run.weight(weight)).flatten(-2)
        return run.torch.cat(parts, -1)


@dataclass(frozen=True, slots=True, eq=False)
class Attention(Operation):
    """Causal attention over packed (q, k, v) and the KV cache of the layer that it stands in.

    Query head h reads head ``h // (num_heads / num_kv_heads)`` of keys and values.
    """

    qkv: Value
    num_heads: int
    num_kv_heads: int
    head_dim: int
    scale: float
    """The scores q · k are multiplied by it."""
    rotary: Rotary
    window: int | None = None
    """A token sees itself and the ``window - 1`` before it; None sees all."""

    def features(self) -> frozenset[str]:
        return frozenset({"window"} if self.window is not None else ())

    def width(self, of: Callable[[Value], int]) -> int:
        return self.num_heads * self.head_dim

    def compute(self, run: Reference) -> Any:
        qkv, torch = run.value(self.qkv), run.torch
        batch, length, _ = qkv.shape
        # (batch, heads, length, head_dim)
        q, k, v = (
            part.reshape(batch, length, -1, self.head_dim).transpose(1, 2) for part in qkv.split(packed(self), -1)
        )
        cos, sin = run.once((id(self.rotary), length), lambda: _turns(torch, self.rotary, length, qkv.device))
        q, k = _turn(torch, q, cos, sin), _turn(torch, k, cos, sin)
        if self.num_heads != self.num_kv_heads:
            k, v = (part.repeat_interleave(self.num_heads // self.num_kv_heads, 1) for part in (k, v))
        seen = None
        if self.window is not None and self.window < length:
            ones = torch.ones(length, length, dtype=torch.bool, device=qkv.device)
            seen = ones.tril() & ones.triu(1 - self.window)
        mixed = torch.nn.functional.scaled_dot_product_attention(
            q, k, v, attn_mask=seen, is_causal=seen is None, scale=self.scale
        )
        return mixed.transpose(1, 2).reshape(batch, length, self.num_heads * self.head_dim)


def packed(heads: Attention | NormHeads) -> list[int]:
    """The widths of q, k and v where they lie packed in one value."""
    q, kv = heads.num_heads * heads.head_dim, heads.num_kv_heads * heads.head_dim
    return [q, kv, kv]


def _turns(torch: Any, rotary: Rotary, length: int, device: Any) -> tuple[Any, Any]:
    """Cosines and sines, each (length, pairs)."""
    angles = rotary.angles()
    frequencies = torch.from_numpy(angles.frequencies).to(device)
    turned = torch.arange(length, device=device, dtype=torch.float32)[:, None] * frequencies
    return turned.cos() * angles.magnitude, turned.sin() * angles.magnitude


def _turn(torch: Any, x: Any, cos: Any, sin: Any) -> Any:
    a, b = x.chunk(2, -1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], -1)
