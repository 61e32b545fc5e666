"""How rotary frequencies are stretched, as data."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from zoo.declarations.base import Value

Size = Annotated[int, Field(gt=0, le=2**31 - 1)]


class Numbers(Value):
    """Numbers that are all finite."""

    model_config = ConfigDict(allow_inf_nan=False)


class RopeScaling(Numbers):
    """How rotary frequencies are stretched past the context that the weights were trained on.

    The keys and their meaning are those of transformers' ``rope_scaling`` (``rope_parameters`` in newer files).
    """

    rope_type: Literal["linear", "dynamic", "llama3", "yarn"]
    """The formula."""
    factor: float = Field(default=1.0, ge=1.0)
    """By how much the context grows."""
    original_max_position_embeddings: Size | None = None
    """The context that the weights were trained on, in tokens."""
    low_freq_factor: float | None = None
    """Of ``llama3``: where frequencies begin to be stretched."""
    high_freq_factor: float | None = None
    """Of ``llama3``: from where on they stay."""
    attention_factor: float | None = None
    """Of ``yarn``: what attention scores are scaled by; by default it follows from the factor."""
    beta_fast: float | None = None
    """Of ``yarn``: rotations from which on a frequency stays."""
    beta_slow: float | None = None
    """Of ``yarn``: rotations up to which it is stretched whole."""
    mscale: float | None = None
    """Of ``yarn``: a part of the attention factor."""
    mscale_all_dim: float | None = None
    """Of ``yarn``: a part of the attention factor."""
    truncate: bool = True
    """Of ``yarn``: the bounds between stretched and kept are whole numbers."""

    def context(self, stated: int) -> int:
        """Positions that scaled frequencies serve, where a configuration states ``max_position_embeddings``.

        Linear scaling and YaRN stretch the context that the weights were trained on by their factor, whether or not
        ``max_position_embeddings`` was raised with it, as vLLM and llama.cpp take it; dynamic scaling reaches past it.
        """
        if self.rope_type == "llama3":  # whose configurations state the stretched one
            return stated
        return max(stated, int((self.original_max_position_embeddings or stated) * self.factor))
