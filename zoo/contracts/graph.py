"""The operations that an architecture composes and a target implements."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from zoo.contracts.weights import Parameter

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Rotary:
    """How positions turn the halves of a head against each other.

    Position p turns pair i by the angle p · frequencies[i]; cosines and sines are multiplied by ``magnitude``.
    """

    frequencies: NDArray[np.float32]
    """(head_dim / 2,), radians a position; zero where a pair is padding."""
    exponents: NDArray[np.float32]
    """(head_dim / 2,): 2i / head size, so that a frequency is θ^-exponent; used when the base grows."""
    turning: int
    """Pairs that are no padding."""
    magnitude: float
    context: int
    """Positions to make tables for."""
    growth: tuple[float, float, int, float] | None = None
    """Dynamic NTK scaling, (θ, factor, original context, power): at a length n over the original context c,
    θ becomes θ · (factor · n / c - (factor - 1)) ^ power. Position p is turned as at length p + 1, which is what
    transformers does to each token that it generates."""


class GraphOps(Protocol):
    """The operations an architecture composes; a target implements them. Values are opaque handles.

    Hidden states are float (batch, sequence, hidden). Weights are named by their ``Parameter``; how they are stored is
    the target's and the quantizer's matter.
    """

    def tokens(self) -> Any:
        """The input token ids, int64 (batch, sequence)."""
        ...

    def embedding(self, name: str, ids: Any, weight: Parameter) -> Any:
        """Look rows of ``weight`` up: (batch, sequence) → (batch, sequence, hidden)."""
        ...

    def rms_norm(self, name: str, x: Any, weight: Parameter, eps: float) -> Any:
        """x / sqrt(mean(x²) + eps) · weight."""
        ...

    def add_rms_norm(self, name: str, x: Any, residual: Any, weight: Parameter, eps: float) -> tuple[Any, Any]:
        """Return (rms_norm(x + residual), x + residual)."""
        ...

    def linear(self, name: str, x: Any, weight: Parameter, bias: Parameter | None = None) -> Any:
        """x · weightᵀ + bias."""
        ...

    def attention(
        self,
        name: str,
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
        """Causal attention with rotary embedding over packed (q, k, v) and the layer's KV cache.

        With ``window`` a token sees itself and the ``window - 1`` tokens before it.
        """
        ...

    def norm_heads(
        self,
        name: str,
        qkv: Any,
        q_weight: Parameter,
        k_weight: Parameter,
        eps: float,
        *,
        num_heads: int,
        num_kv_heads: int,
        head_dim: int,
    ) -> Any:
        """RMSNorm of each head of q and of k in packed (q, k, v); the weights are (head_dim,). v stays."""
        ...

    def scale(self, name: str, x: Any, factor: float) -> Any:
        """x · factor, the factor rounded to float32."""
        ...

    def activation(self, name: str, kind: str, x: Any) -> Any:
        """Apply an activation by its ``hidden_act`` name."""
        ...

    def multiply(self, name: str, a: Any, b: Any) -> Any: ...

    def add(self, name: str, a: Any, b: Any) -> Any: ...

    def last_positions(self, name: str, x: Any) -> Any:
        """Keep the positions whose logits were asked for: the last one unless the caller says otherwise."""
        ...

    def logits(self, x: Any) -> None:
        """Declare the result, float (batch, positions, vocab)."""
        ...
