"""What the pages show, as values: the same that ``catalog.json`` holds."""

from __future__ import annotations

from typing import Literal

from pydantic import JsonValue

from zoo.declarations.architecture import Architecture, Attention
from zoo.declarations.base import Value
from zoo.declarations.dataset import Dataset
from zoo.declarations.family import Family
from zoo.declarations.licence import Licence
from zoo.declarations.report import Report


class Fact(Value):
    """A value and the declaration it came from."""

    value: JsonValue
    origin: str


class Share(Value):
    """A part of the model by its weights."""

    name: str
    parameters: int


class LayerWeight(Value):
    """A weight of a decoder layer."""

    role: str
    shape: tuple[int, ...]


class Block(Value):
    """A block of a layer: a norm, attention, an MLP, or a sum."""

    kind: Literal["norm", "attention", "mlp", "sum"]
    name: str
    note: str
    reads: tuple[int, ...]
    """Which blocks it reads, by place; -1 is what enters the layer."""


class Outline(Value):
    """What a model computes, the first of its layers standing for all."""

    vocab_size: int
    hidden_size: int
    times: int
    """Layers."""
    layer: tuple[Block, ...]
    norms: tuple[Block, ...]
    """Norms behind the layers."""
    outputs: int
    """Of the output head; 0 without one."""
    tied: bool
    """The output head is the token embedding."""
    result: str
    """What comes out, in words."""

    @property
    def gated(self) -> bool:
        """Whether an MLP has a gate."""
        return any(block.name.startswith("Gated") for block in self.layer)


class BuildCost(Value):
    """What building one precision for one target takes, and running it; computed from numbers alone. Bytes."""

    target: str
    precision: str
    quantizer: str
    weights_bytes: int
    """Stored weights, with scales and zero points."""
    bits_per_weight: float
    build_memory_bytes: int
    run_memory_bytes: int | None
    """None where the engine does not run what the target builds."""
    run_context: int
    """Tokens of context that the memory to run is for."""
    files: tuple[str, ...]
    """What the target writes: the weights first, then the files that hold none."""


class Written(Value):
    """Files that a target writes for other tools, and the commands that take them."""

    target: str
    precision: str
    files: dict[str, str]
    commands: tuple[str, ...]


class Refused(Value):
    """A build that a target refuses, with its reason."""

    target: str
    precision: str
    reason: str


class ModelCard(Value):
    """All that is known of a model."""

    name: str
    """What commands take: the bare name, or ``family/model`` where several families have it."""
    model: str
    family: str
    title: str
    chat: bool
    parameters: int
    attention: Attention
    context_length: int
    architecture: Architecture
    licence: Licence
    weights: str | None
    """The hub repository; None where the plugin ships the weights."""
    shares: tuple[Share, ...]
    layer: tuple[LayerWeight, ...]
    """The weights of the first layer."""
    outline: Outline
    precisions: tuple[str, ...]
    """Those that the default target builds."""
    builds: tuple[BuildCost, ...]
    documents: tuple[Written, ...]
    refused: tuple[Refused, ...]
    verified: tuple[str, ...]
    """Precisions whose latest verification passed."""
    reports: tuple[Report, ...]
    rungs: tuple[str, ...]
    """How far it has come, as ``zoo list --results`` names it."""
    facts: dict[str, dict[str, Fact]]
    """Section → field → value and origin."""

    @property
    def trial(self) -> str:
        """The command that tries a package, ``{}`` where its name belongs."""
        if "judging" in self.facts.get("embedding", {}) or self.outline.result.startswith("scores"):
            return 'rerank {} "What is a llama?" documents.txt'
        if self.outline.result.startswith("hidden states"):
            return 'embed {} "What is a llama?"'
        return f'run {{}}{" --chat" if self.chat else ""} "Once upon a time"'

    @property
    def path(self) -> str:
        """Its page, inside the catalog."""
        return f"models/{self.family}/{self.model}.html"

    def cost(self, precision: str) -> BuildCost | None:
        """What a precision costs on the first target that builds it from weights."""
        return next((build for build in self.builds if build.precision == precision), None)


class Option(Value):
    """An option of a target or a quantizer."""

    name: str
    type: str
    default: str
    description: str


class PartCard(Value):
    """A target or a quantizer."""

    kind: Literal["target", "quantizer"]
    name: str
    plugin: str | None
    summary: str
    precisions: dict[str, str | None]
    """Precision → the quantizer that a target means by it; None for a quantizer's own."""
    properties: dict[str, str]
    options: tuple[Option, ...]
    problem: str | None = None
    """Why it cannot be used here."""

    @property
    def path(self) -> str:
        """Its page, inside the catalog."""
        return f"{self.kind}s/{self.name}.html"


class FamilyCard(Value):
    """A family and the plugin that declares it."""

    family: Family
    plugin: str

    @property
    def path(self) -> str:
        """Its page, inside the catalog."""
        return f"families/{self.family.name}.html"


class Zoo(Value):
    """The whole zoo."""

    families: tuple[FamilyCard, ...]
    models: tuple[ModelCard, ...]
    targets: tuple[PartCard, ...]
    quantizers: tuple[PartCard, ...]
    datasets: tuple[Dataset, ...]
    default_target: str
