"""What a user asks to be built, before anything is looked up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from zoo.declarations.option import option


@dataclass(frozen=True)
class Request:
    """What a user asks to be built."""

    model: str
    precision: str = option("int8", "fp32, fp16, int8 or int4.", flag="-p")
    weights: str | None = option(None, "Folder or repository of the declared model's weights.", metavar="DIR|HUB_ID")
    revision: str | None = option(None, "Revision of a hub repository.")
    transforms: tuple[tuple[str, Mapping[str, Any]], ...] = ()
    """Transforms of the weights before the build, first to last: name and options of each."""
    quantizer: str | None = option(None, "Quantizer; the target's choice for the precision by default.")
    quantizer_options: Mapping[str, Any] = field(default_factory=dict)
    calibration: str | None = option(
        None,
        "Data for a calibrated quantizer: a dataset (by default the family's first) or a file.",
        metavar="NAME|PATH",
    )
    samples: int | None = option(None, "Calibration samples; by default what the family states.", min=1, max=100_000)
    sequence_length: int | None = option(None, "Length of a calibration sample, in tokens.", min=2, max=2**20)
    seed: int = option(0, "Seed of the choice of calibration samples.", min=0)
    activations: str | None = option(
        None,
        "What calibrated layers see of those before them: as stored (the default for one target) or the "
        "original weights (observed once for all; the default for several).",
        metavar="stored|original",
    )
    mixed: str | None = option(
        None, "Measure the error of each weight and give more bits to the worst.", metavar="auto"
    )
    mixed_budget: str | None = option(
        None,
        "With --mixed: bits per weight, or a percentage above the plain build; 10% by default.",
        metavar="BITS|N%",
    )
    smoothing: str = option(
        "auto",
        "Rescale channels before rounding, so that outliers cost less: auto (int8 in models narrower than 2,048), "
        "always (wherever it is exact) or none.",
        metavar="auto|always|none",
    )
    adapters: tuple[str, ...] = option(
        (), "Merge a LoRA adapter; several in order.", flag="--adapter", metavar="DIR|HUB_ID"
    )
    adapter_scales: tuple[float, ...] = option(
        (), "Scale of each adapter, in order; 1 by default.", flag="--adapter-scale"
    )
    no_adapter: bool = option(False, "Ignore the adapter that is declared or lies beside the weights.")
    allow_unused: tuple[str, ...] = option((), "Ignore unused tensors whose name matches.", metavar="PATTERN")
    allow_nonfinite: bool = option(
        False, "Keep NaN and infinite weights where a weight stays a float (fp16, fp32, norms)."
    )
    context: int | None = option(
        None, "Tokens that the package serves; by default all that the model was made for.", min=1
    )
    target: str = option(
        "ort",
        "Runtime to build for; `--target NAME --help` also shows its options. NAME,NAME builds for each, into a folder "
        "of that name.",
    )
    target_options: Mapping[str, Any] = field(default_factory=dict)
    together: bool = False
    """Whether packages for other targets are built in the same run."""
