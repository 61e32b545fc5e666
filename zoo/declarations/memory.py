"""What a package takes in memory while it runs: two numbers, from which every limit is computed."""

from __future__ import annotations

from typing import Literal

from zoo.declarations.base import Value

KV = Literal["auto", "int8", "fp32"]
"""How keys and values are kept. ``auto`` leaves it to the engine; ours takes 8 bits only where they are asked for, as
they change answers."""
WIDENED = 3.75
"""Memory that weights stored as float16 take while a package is opened, in their stored size: onnxruntime widens them
to float32 (2), and lets go of what it made them from at the end. Measured on 0.2B and 0.6B shapes."""


class RunMemory(Value):
    """What the engine of this project holds of a package, bytes."""

    weights_bytes: int
    """Weights as the kernels hold them: what is stored as float16 is widened to float32, save an embedding; all others
    are as stored."""
    kv_bytes_per_token: int
    """Keys and values of one token of one sequence, float32; a quarter with ``--kv int8``."""

    def kept(self, kv: KV) -> RunMemory:
        """Count the same with keys and values kept in another way."""
        share = 4 if kv == "int8" else 1
        return self.model_copy(update={"kv_bytes_per_token": self.kv_bytes_per_token // share})

    def running(self, tokens: int) -> int:
        """Count the weights and the caches of so many tokens, of all sequences together."""
        return self.weights_bytes + tokens * self.kv_bytes_per_token

    def opening(self, stored: int) -> int:
        """Count what opening takes at its peak.

        Args:
            stored: bytes of the weights as they are stored.
        """
        # Widening doubles: what is held beyond what is stored was stored as float16, as many bytes.
        halves = max(0, self.weights_bytes - stored)
        return self.weights_bytes + round((WIDENED - 2) * halves)
