"""A recipe: everything that decides the bits of a package, pinned."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Annotated, Any, Literal, Self

from pydantic import Field, JsonValue

from zoo.declarations.architecture import Architecture
from zoo.declarations.base import HubLocation, Name, Sha256, Value, digest
from zoo.declarations.licence import Licence
from zoo.declarations.scheme import BlockScheme
from zoo.declarations.traits import Trait, hashed_fields

Precision = Literal["fp32", "fp16", "int8", "int4"]
PRECISIONS: tuple[Precision, ...] = ("fp32", "fp16", "int8", "int4")


ADAPTER: Name = "adapter"
"""The ``kind`` of a pin that says an adapter was merged."""


class TransformPin(Value):
    """Something that was done to the tensors of a checkpoint before the build read them."""

    kind: Name
    """The transform, by its registered name."""
    digest: Sha256 | None = None
    """Names the content of what it brought in beside the checkpoint (an adapter), where it brought something."""
    options: dict[str, JsonValue] = Field(default_factory=dict)
    """All its options, spelled out."""


class WeightsPin(Value):
    """Which weights, by their content; never a path."""

    hub: HubLocation | None = None
    revision: str | None = None
    """The commit of a hub repository."""
    digest: Sha256 | None = None
    """Names the content: weights, configuration, tokenizer; absent while nothing is on disk."""
    files: dict[str, Sha256] = Field(default_factory=dict)
    """SHA-256 of each file of weights, where the hub states it."""
    transforms: tuple[TransformPin, ...] = ()
    """What was done to the tensors, first to last."""


class TokenIds(Value):
    """Special token ids as the package will carry them."""

    bos_token_id: int | None = None
    eos_token_id: tuple[int, ...] = ()
    pad_token_id: int | None = None
    added: Annotated[dict[str, int], Trait.LATER] = Field(default_factory=dict)
    """Special tokens that no file of the checkpoint names, text → id."""
    begin: Annotated[tuple[str, ...], Trait.LATER] = ()
    """Those of them that begin every text."""


class QuantizerChoice(Value):
    """A quantizer by name, with all its options spelled out."""

    name: Name
    options: dict[str, JsonValue] = Field(default_factory=dict)


class TargetChoice(Value):
    """A target by name, with all its options spelled out, and the version of what it emits."""

    name: Name
    options: dict[str, JsonValue] = Field(default_factory=dict)
    emitter_version: int = 1


class CalibrationPin(Value):
    """Which calibration data, to the token."""

    dataset: str
    samples: int
    sequence_length: int
    seed: int = 0
    fingerprint: Sha256 | None = None
    """SHA-256 of the token ids."""
    activations: Annotated[Literal["stored", "original"], Trait.LATER] = "stored"
    """What a layer's inputs come from: the layers before it as they are stored, or the original weights. Those are the
    same for every package of a model, so that several built together observe them once."""
    experts: Annotated[Literal["together", "apart"], Trait.LATER] = "together"
    """Of a mixture: its experts were calibrated by all tokens, as first packages were, or each by its own tokens."""


class SmoothingPin(Value):
    """Channels rescaled before weights are rounded, by what tokens drawn at random excite (``zoo.smoothing``)."""

    tokens: int = Field(default=16, ge=1, le=4096)
    seed: int = 0
    fit: Annotated[tuple[float, float] | None, Trait.LATER] = None
    """The powers of the inputs' and of the weights' sizes that channels are rescaled by, where 4-bit blocks are then
    fitted to those inputs."""


class Recipe(Value):
    """What to build, pinned. ``model``, ``family`` and ``licence`` are labels: they do not enter the hash."""

    format_version: Literal[1, 2] = 2
    """Version of the package folder's format."""
    model: str
    family: Name | None = None
    licence: Licence
    weights: WeightsPin
    architecture: Architecture
    tokens: TokenIds = TokenIds()
    chat_template: str | None = None
    precision: Precision
    quantizer: QuantizerChoice
    taken_over: Annotated[dict[str, BlockScheme], Trait.LATER] = Field(default_factory=dict)
    """Weights that the checkpoint stores as integer blocks and the build takes over as they are: a role or a name → the
    blocks."""
    allow_nonfinite: Annotated[bool, Trait.LATER] = False
    """NaN and infinite weights are kept where a weight stays a float; integers cannot hold them, so there they are
    refused still."""
    allow_unused: Annotated[tuple[str, ...], Trait.LATER] = ()
    """Patterns of tensors that the architecture does not use and the build left out."""
    calibration: CalibrationPin | None = None
    smoothing: Annotated[SmoothingPin | None, Trait.LATER] = None
    """How channels are rescaled; None where they are not."""
    target: TargetChoice

    @cached_property
    def hash(self) -> str:
        """Name the build: 64 hexadecimal digits over everything that decides its bits."""
        fields = hashed_fields(self)
        for label in ("model", "family", "licence"):
            del fields[label]
        return digest(fields)

    @property
    def scales_lookups(self) -> bool:
        """Whether an embedding that is the head too is rescaled, and what is looked up scaled back.

        Calibrated builds need what is looked up first, and its scales are known last.
        """
        return self.smoothing is not None and self.calibration is None

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """Copy, with other values for some fields; the copy has a hash of its own."""
        copy = super().model_copy(update=update, deep=deep)
        copy.__dict__.pop("hash", None)
        return copy
