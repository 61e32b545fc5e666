"""What a user asks to be built, before anything is looked up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Request:
    """What a user asks to be built."""

    model: str
    precision: str = "int8"
    weights: str | None = None
    """A folder or a hub id that the weights come from instead of the declared place."""
    revision: str | None = None
    transforms: Sequence[tuple[str, Mapping[str, Any]]] = ()
    """What is done to the tensors, first to last: transforms by name, each with its options."""
    adapters: Sequence[str] = ()
    """LoRA adapters that are merged into the weights, in order: folders or hub ids."""
    adapter_scales: Sequence[float] = ()
    """How much of each is added, in their order; 1 where nothing is said."""
    no_adapter: bool = False
    """Build weights without the adapter that is declared or lies beside them."""
    allow_unused: Sequence[str] = ()
    """Patterns of tensors that the architecture does not use and the build may leave out."""
    quantizer: str | None = None
    quantizer_options: Mapping[str, Any] = field(default_factory=dict)
    allow_nonfinite: bool = False
    """Keep NaN and infinite values in weights that stay floats."""
    calibration: str | None = None
    """The dataset, or a file, that a calibrated quantizer sees; by default the family's first dataset."""
    samples: int | None = None
    """Calibration samples; by default what the family states for the dataset."""
    sequence_length: int | None = None
    """Tokens of each."""
    seed: int = 0
    """Which samples are drawn."""
    mixed: str | None = None
    """``auto`` chooses weights that get more bits by what each was measured to lose."""
    mixed_budget: str | None = None
    """Bits per weight that the choice may take (``5.2``), or a percentage more than without it (``10%``)."""
    smoothing: str = "auto"
    """Whether channels are rescaled before weights are rounded: ``auto`` where it was measured to help, ``always``
    where it is exact, ``none``."""
    target: str = "ort"
    target_options: Mapping[str, Any] = field(default_factory=dict)
