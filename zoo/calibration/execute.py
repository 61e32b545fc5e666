"""Operations computed by torch in float32, on the CPU or on a GPU."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from zoo.calibration.program import Op, Segment
from zoo.contracts import Parameter, Rotary
from zoo.errors import UsageError, ZooError

Observe = Callable[[Parameter, Any], None]
"""Told of each linear's weight and of its input, (tokens, in_features)."""
Watch = Callable[[Op, Any, Any], None]
"""Told of each operation that has a weight, of its input and of its output."""


def require_torch() -> Any:
    """Import torch.

    Raises:
        ZooError: it is not installed, with what installs it.
    """
    try:
        import torch
    except ImportError:
        raise ZooError(
            "calibration computes with torch, which is not installed: pip install 'zoo-framework[calibrate]'"
        ) from None
    return torch


def check_device(name: str) -> None:
    """Refuse a name that no device has.

    Raises:
        UsageError: it is neither ``cpu`` nor ``cuda``.
    """
    if name != "cpu" and name.split(":")[0] != "cuda":
        raise UsageError(f"device {name!r} is not known; cpu or cuda")


def choose_device(name: str) -> str:
    """Check that this machine has a device.

    Raises:
        UsageError: nothing is called so.
        ZooError: no such device on this machine.
    """
    check_device(name)
    torch = require_torch()
    if name == "cpu":
        return name
    if not torch.cuda.is_available():
        raise ZooError("device 'cuda': torch sees no CUDA device on this machine; leave --device out to use the CPU")
    return name


class Executor:
    """Runs segments with given weights.

    Args:
        device: where to compute.
    """

    def __init__(self, device: str = "cpu") -> None:
        self.torch = require_torch()
        self.device = choose_device(device)
        self._tables: dict[tuple[int, int], tuple[Any, Any]] = {}

    def run(
        self,
        segment: Segment,
        state: Any,
        weights: Mapping[str, Any],
        observe: Observe | None = None,
        until: set[str] | None = None,
        watch: Watch | None = None,
    ) -> Any:
        """Send values through a segment.

        Args:
            state: what enters, (batch, tokens, hidden), or token ids (batch, tokens).
            weights: parameter name → tensor on the device.
            observe: told of the inputs of linears.
            until: names of linears to observe; nothing after the last of them is computed.
            watch: told of what operations with a weight read and make.

        Returns:
            What leaves, or None with ``until``.
        """
        values = {segment.entry: state}
        left = set(until) if until is not None else None
        last = {value: op for op in segment.ops for value in op.inputs}
        for op in segment.ops:
            given = [values[one] for one in op.inputs]
            if op.kind == "linear" and op.weight is not None and observe is not None:
                if left is None or op.weight.name in left:
                    observe(op.weight, given[0].reshape(-1, given[0].shape[-1]))
                if left is not None:
                    left.discard(op.weight.name)
                    if not left:
                        return None
            values[op.output] = self._compute(op, given, weights)
            if watch is not None and op.weight is not None:
                watch(op, given[0], values[op.output])
            del given
            for one in op.inputs:
                if last[one] is op and one != segment.exit:
                    values.pop(one, None)
        return values[segment.exit]

    def _compute(self, op: Op, given: list[Any], weights: Mapping[str, Any]) -> Any:
        torch = self.torch
        x = given[0]
        weight = weights[op.weight.name] if op.weight is not None else None
        if op.kind == "linear":
            bias = weights[op.bias.name] if op.bias is not None else None
            return torch.nn.functional.linear(x, weight, bias)
        if op.kind == "rms_norm":
            return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + op.attributes["eps"]) * weight
        if op.kind == "add":
            return x + given[1]
        if op.kind == "norm_heads" and op.bias is not None:
            return self._norm_heads(x, weight, weights[op.bias.name], **op.attributes)
        if op.kind == "scale":
            return x * op.attributes["factor"]
        if op.kind == "multiply":
            return x * given[1]
        if op.kind == "activation":
            return self._activation(op.attributes["function"], x)
        if op.kind == "embedding":
            return torch.nn.functional.embedding(x, weight)
        if op.kind == "attention":
            return self._attention(x, **op.attributes)
        raise ZooError(f"operation {op.kind!r} is not computed by the calibration")

    def _activation(self, kind: str, x: Any) -> Any:
        f = self.torch.nn.functional
        if kind == "silu":
            return f.silu(x)
        if kind == "relu":
            return f.relu(x)
        if kind in ("gelu", "gelu_new", "gelu_pytorch_tanh"):
            return f.gelu(x, approximate="none" if kind == "gelu" else "tanh")
        raise ZooError(f"activation {kind!r} is not computed by the calibration")

    def _attention(
        self,
        qkv: Any,
        *,
        layer: int,
        num_heads: int,
        num_kv_heads: int,
        head_dim: int,
        scale: float,
        rotary: Rotary,
        window: int | None = None,
    ) -> Any:
        batch, length, _ = qkv.shape
        q, k, v = qkv.split([num_heads * head_dim, num_kv_heads * head_dim, num_kv_heads * head_dim], -1)
        cos, sin = self._turns(rotary, length)
        heads = [
            one.reshape(batch, length, -1, head_dim).transpose(1, 2) for one in (q, k, v)
        ]  # (batch, heads, length, head_dim)
        q, k = (self._rotate(one, cos, sin) for one in heads[:2])
        v = heads[2]
        if num_heads != num_kv_heads:
            k = k.repeat_interleave(num_heads // num_kv_heads, 1)
            v = v.repeat_interleave(num_heads // num_kv_heads, 1)
        seen = None
        if window is not None and window < length:
            ones = self.torch.ones(length, length, dtype=self.torch.bool, device=self.device)
            seen = ones.tril() & ones.triu(1 - window)
        found = self.torch.nn.functional.scaled_dot_product_attention(
            q, k, v, attn_mask=seen, is_causal=seen is None, scale=scale
        )
        return found.transpose(1, 2).reshape(batch, length, num_heads * head_dim)

    def _norm_heads(
        self, qkv: Any, q_weight: Any, k_weight: Any, *, eps: float, num_heads: int, num_kv_heads: int, head_dim: int
    ) -> Any:
        parts = list(qkv.split([num_heads * head_dim, num_kv_heads * head_dim, num_kv_heads * head_dim], -1))
        for index, weight in enumerate((q_weight, k_weight)):
            x = parts[index].unflatten(-1, (-1, head_dim))
            x = x * self.torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + eps) * weight
            parts[index] = x.flatten(-2)
        return self.torch.cat(parts, -1)

    def _turns(self, rotary: Rotary, length: int) -> tuple[Any, Any]:
        key = (id(rotary), length)
        if key not in self._tables:
            torch = self.torch
            frequencies = torch.from_numpy(rotary.frequencies).to(self.device)
            angles = torch.arange(length, device=self.device, dtype=torch.float32)[:, None] * frequencies
            self._tables[key] = (angles.cos() * rotary.magnitude, angles.sin() * rotary.magnitude)
        return self._tables[key]

    def _rotate(self, x: Any, cos: Any, sin: Any) -> Any:
        a, b = x.chunk(2, -1)
        return self.torch.cat([a * cos - b * sin, b * cos + a * sin], -1)
