"""``zoo.toml``, the models that a team keeps, and ``zoo.lock``, what each of them was when it was locked."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, JsonValue

from zoo.declarations.base import HubId, Name, Revision, Sha256, Value, digest
from zoo.declarations.recipe import Precision

MAX_MODELS = 1000

Share = Annotated[float, Field(ge=0, le=1)]


class Limits(Value):
    """What a package must reach to be accepted; what is not stated is not measured."""

    kl_mean: Annotated[float, Field(ge=0)] | None = None
    """The largest mean KL divergence from the reference, nats, as ``zoo verify`` measures it."""
    top1: Share | None = None
    """The smallest share of positions at which the most likely token is the reference's."""
    task: dict[str, float] = Field(default_factory=dict, max_length=100)
    """The smallest score of each task: of its first metric, as ``zoo report`` lists them."""
    questions: Annotated[int, Field(ge=1)] | None = None
    """How many questions of each task are asked; all of them by default."""
    decode_tok_s: Annotated[float, Field(gt=0)] | None = None
    """The slowest decoding, tokens a second, of one request at a time."""


class WantedModel(Value):
    """A package that a team keeps."""

    name: Annotated[str, Field(min_length=1, max_length=4096)]
    """A declared model, a checkpoint folder or a hub id."""
    precision: Precision = "int8"
    target: Name = "ort"
    weights: Annotated[str, Field(min_length=1, max_length=4096)] | None = None
    """Where a declared model's weights are, as ``zoo build --weights`` takes it."""
    revision: Revision | None = None
    quantizer: Name | None = None
    options: dict[Name, JsonValue] = Field(default_factory=dict, max_length=100)
    """Options of the target."""
    limits: Limits = Limits()

    @property
    def label(self) -> str:
        """How messages name it."""
        return f"{self.name} {self.precision}" + (f" for {self.target}" if self.target != "ort" else "")

    @property
    def asked(self) -> str:
        """A hash of what was asked for, the limits not among it."""
        return digest(self.model_dump(mode="json", exclude={"limits"}))


class Workspace(Value):
    """``zoo.toml``."""

    model: tuple[WantedModel, ...] = Field(default=(), max_length=MAX_MODELS)


class LockedModel(Value):
    """A package that was pinned: a build that ends in another recipe is not this one."""

    name: Annotated[str, Field(min_length=1, max_length=4096)]
    precision: Precision
    target: Name
    asked: Sha256
    """Of the entry in ``zoo.toml`` that it answers."""
    hub: HubId | None = None
    revision: Revision | None = None
    """The commit of the hub repository."""
    recipe_hash: Sha256
    contents: Sha256 | None = None
    """Names the files of the package, byte by byte; absent where it was not built yet when it was locked."""
    plugin: str | None = None
    """Distribution and version that declare the model."""
    recipe: dict[str, JsonValue]
    """What decides the build's bits, field by field, so that a difference can be named."""


class Lock(Value):
    """``zoo.lock``."""

    version: Literal[1] = 1
    zoo: Annotated[str, Field(max_length=100)]
    """The version that wrote it."""
    model: tuple[LockedModel, ...] = Field(default=(), max_length=MAX_MODELS)

    def find(self, wanted: WantedModel) -> LockedModel | None:
        """Find what answers an entry of ``zoo.toml``."""
        return next((locked for locked in self.model if locked.asked == wanted.asked), None)


def flattened(value: Any, prefix: str = "") -> dict[str, Any]:
    """Lay nested mappings out as ``a.b.c`` → value, without those that are None."""
    flat: dict[str, Any] = {}
    for key, item in value.items():
        if isinstance(item, dict):
            flat |= flattened(item, f"{prefix}{key}.")
        elif item is not None:
            flat[f"{prefix}{key}"] = item
    return flat


WORKSPACE, LOCK = Path("zoo.toml"), Path("zoo.lock")
