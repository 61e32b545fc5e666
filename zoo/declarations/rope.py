"""How rotary frequencies are stretched, as data."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import ConfigDict, Field, model_validator

from zoo.declarations.base import Value
from zoo.declarations.traits import Trait

Size = Annotated[int, Field(gt=0, le=2**31 - 1)]
Divisor = Annotated[float, Field(gt=0.0)]


class Numbers(Value):
    """Numbers that are all finite."""

    model_config = ConfigDict(allow_inf_nan=False)


class RopeScaling(Numbers):
    """How rotary frequencies are stretched past the context that the weights were trained on.

    The keys and their meaning are those of transformers' ``rope_scaling`` (``rope_parameters`` in newer files).
    """

    rope_type: Literal["linear", "dynamic", "llama3", "yarn", "longrope"]
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
    """Of ``yarn`` and ``longrope``: what q and k are scaled by; by default it follows from the factor."""
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
    short_factor: Annotated[tuple[Divisor, ...] | None, Trait.LATER] = None
    """Of ``longrope``: what each frequency is divided by within the original context."""
    long_factor: Annotated[tuple[Divisor, ...] | None, Trait.LATER] = None
    """Of ``longrope``: what each is divided by in a longer one."""

    @model_validator(mode="after")
    def _check(self) -> RopeScaling:
        if self.rope_type == "longrope":
            if not (self.short_factor and self.long_factor and self.original_max_position_embeddings):
                raise ValueError("longrope needs short_factor, long_factor and original_max_position_embeddings")
            if len(self.short_factor) != len(self.long_factor):
                raise ValueError("short_factor and long_factor differ in length")
        return self

    def context(self, stated: int) -> int:
        """Positions that scaled frequencies serve, where a configuration states ``max_position_embeddings``.

        Linear scaling and YaRN stretch the context that the weights were trained on by their factor, whether or not
        ``max_position_embeddings`` was raised with it, as vLLM and llama.cpp take it; dynamic scaling reaches past it.
        """
        if self.rope_type in ("llama3", "longrope"):  # whose configurations state the stretched one
            return stated
        return max(stated, int((self.original_max_position_embeddings or stated) * self.factor))

    @property
    def magnitude(self) -> float:
        """What ``longrope`` scales q and k by."""
        original = self.original_max_position_embeddings
        if self.attention_factor is not None or original is None or self.factor <= 1 or original < 2:
            return self.attention_factor or 1.0
        return math.sqrt(1 + math.log(self.factor) / math.log(original))

    def divisors(self, context: int) -> tuple[float, ...] | None:
        """What ``longrope`` divides frequencies by in a package that serves so many tokens; None of other formulas.

        transformers changes from the short ones to the long ones where a text outgrows the original context, and
        computes all of it again. Runtimes that keep keys turned choose once, by the context that they serve, as vLLM
        and llama.cpp (``get_rope_factors``) do.
        """
        original = self.original_max_position_embeddings
        return self.short_factor if original is not None and context <= original else self.long_factor
