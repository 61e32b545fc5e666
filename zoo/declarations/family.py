"""A model family as its plugin declares it, and the models in it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cached_property
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, JsonValue, StringConstraints, model_validator

from zoo.declarations.architecture import ArchitectureFields
from zoo.declarations.base import HttpUrl, HubId, Misplaced, Name, Revision, Sha256, Value
from zoo.declarations.conversation import Thinking, ToolFormat
from zoo.declarations.dataset import DatasetUses
from zoo.declarations.embedding import EmbeddingUse
from zoo.declarations.licence import Licence

BaseName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]*(/[a-z0-9][a-z0-9._-]*)?$", max_length=193)]
"""``model`` of the same family, or ``family/model`` of any."""

_TYPE = r"^[A-Za-z0-9][\w-]*$"
ModelType = Annotated[str, StringConstraints(pattern=_TYPE, max_length=64)]


MAX_BASES = 16
"""How many models may be based on each other in a row; what a model inherits is looked up along them."""


def _runs_no_code(targets: dict[str, dict[str, JsonValue]]) -> dict[str, dict[str, JsonValue]]:
    """Refuse an option of any tool that makes it run a checkpoint's code; only a user may ask for that."""
    waiting: list[tuple[tuple[str | int, ...], JsonValue]] = [((name,), value) for name, value in targets.items()]
    while waiting:
        at, value = waiting.pop()
        if isinstance(value, dict):
            for key in value:
                if re.sub(r"[^a-z]", "", key.lower()).startswith("trustremote"):
                    raise Misplaced(
                        (*at, key), "it lets a checkpoint's own code run, which no declaration may; remove it"
                    )
            waiting += [((*at, key), inner) for key, inner in value.items()]
        elif isinstance(value, list):
            waiting += [((*at, index), inner) for index, inner in enumerate(value)]
    return targets


def _claims(stated: Any) -> Any:
    """Read a list of types as types that leave nothing unsaid."""
    if isinstance(stated, list | tuple):
        for index, claim in enumerate(stated):
            if not isinstance(claim, str) or not re.fullmatch(_TYPE, claim):
                raise Misplaced((index,), "expected a model_type: letters, digits, dashes and underscores")
        return {claim: {} for claim in stated}
    if not isinstance(stated, dict):
        raise ValueError("expected a list of model types, or a mapping from each to the fields that its files omit")
    return stated


Claims = Annotated[
    dict[ModelType, ArchitectureFields],
    BeforeValidator(_claims, json_schema_input_type=tuple[ModelType, ...] | dict[ModelType, ArchitectureFields]),
]


TargetOptions = Annotated[dict[Name, dict[str, JsonValue]], AfterValidator(_runs_no_code)]


class Paper(Value):
    """A paper that describes the family."""

    title: str
    """Its title."""
    url: HttpUrl
    """Where it can be read."""


class Weights(Value):
    """Where a model's weights are: a hub repository, or a folder beside the declaration."""

    hub: HubId | None = None
    """The hub repository, ``organisation/name``."""
    revision: Revision = "main"
    """A branch, a tag or a commit of the repository."""
    path: str | None = None
    """A folder, relative to the declaring file: weights that a plugin ships."""
    files: Annotated[dict[str, Sha256], Field(min_length=1, max_length=10_000)] | None = None
    """SHA-256 of the repository's files of weights, by name: what is verified on a folder that holds them
    counts as verified on this checkpoint."""

    @model_validator(mode="after")
    def _check(self) -> Weights:
        if (self.hub is None) == (self.path is None):
            raise ValueError("state either hub or path")
        return self


class AdapterWeights(Value):
    """A LoRA adapter that makes a fine-tune of the weights."""

    hub: HubId
    """Its repository, ``organisation/name``."""
    revision: Revision = "main"
    """A branch, a tag or a commit of the repository."""
    scale: float = Field(default=1.0, ge=-100, le=100)
    """How much of it is added."""


def _one_is_enough(schema: dict[str, Any]) -> None:
    """Tell editors that one id needs no list."""
    schema["anyOf"].insert(0, {"type": "integer"})


class Tokens(Value):
    """Special tokens; what is not stated is the checkpoint's own."""

    bos_token_id: int | None = None
    """The id that begins a text."""
    eos_token_id: Annotated[tuple[int, ...] | None, Field(json_schema_extra=_one_is_enough)] = None
    """Every id that ends a text."""
    pad_token_id: int | None = None
    """The id that fills up a batch."""
    added: dict[str, Annotated[int, Field(ge=0, lt=2**31)]] | None = None
    """Special tokens, text → id, that the makers' own code adds to a sentencepiece model and no file names."""
    begin: tuple[str, ...] | None = None
    """Those of them that begin every text, where that is not the begin token."""
    override: str | None = None
    """Why these ids win over the checkpoint's, where they do; without a reason the checkpoint wins."""

    @model_validator(mode="before")
    @classmethod
    def _one_or_many(cls, data: Any) -> Any:
        if isinstance(data, dict) and isinstance(data.get("eos_token_id"), int | str):
            data = {**data, "eos_token_id": [data["eos_token_id"]]}
        return data


class Model(Value):
    """One model: a name, its weights, its numbers and what it changes of the family."""

    name: Name
    """What people type: ``zoo build NAME``."""
    title: str | None = None
    """How the model is called in lists and pages."""
    base: BaseName | None = None
    """The model whose numbers, tokens and template this one shares, as a fine-tune does: one declared above, or
    ``family/model`` of another family, whichever plugin brings it."""
    weights: Weights
    """Where its weights are."""
    adapter: AdapterWeights | None = None
    """A LoRA adapter that is merged into them."""
    model_type: ModelType | None = None
    """The ``model_type`` of its checkpoint, where it is not the family's."""
    architecture: ArchitectureFields = ArchitectureFields()
    """Its numbers, and what they change of the family's."""
    tokens: Tokens | None = None
    """Special tokens that differ from the family's."""
    chat_template: str | None = None
    """Jinja template over ``messages``; absent, the checkpoint's own is used."""
    tools: ToolFormat | None = None
    """How it writes calls of tools, where that is not as the family says."""
    thinking: Thinking | None = None
    """How it marks its thoughts, where that is not as the family says."""
    chat: bool | None = None
    """Tuned to converse: scored by what it generates, prompted through its template."""
    embedding: EmbeddingUse | None = None
    """How it embeds or ranks texts, where that is not as the family says."""
    draft: BaseName | None = None
    """A much smaller model with the same tokens, by a name that is unique or ``family/model``: what guesses ahead
    with ``--draft auto``."""
    licence: Licence | None = None
    """Its licence, where it is not the family's."""
    targets: TargetOptions = Field(default_factory=dict)
    """What the model changes of a target's defaults."""
    pretraining_tokens: int | None = Field(default=None, gt=0)
    """Tokens that it was trained on, where that is not the family's number."""
    note: str | None = None
    """What a user should know of this model."""
    source: str | None = None
    """Where the numbers come from."""
    unconfirmed: tuple[str, ...] = ()
    """Numbers of its ``architecture`` for which no page was found: lists show it, and a checkpoint's own win."""

    @model_validator(mode="after")
    def _states_what_it_doubts(self) -> Model:
        if absent := [name for name in self.unconfirmed if name not in self.architecture.model_fields_set]:
            raise Misplaced(
                ("unconfirmed",), f"the model's architecture does not state {absent[0]}; state or remove it"
            )
        return self


class Family(Value):
    """A model family, declared once."""

    name: Name
    """What people type: ``zoo list --family NAME``, ``NAME/model``."""
    title: str
    """How the family is called in lists and pages."""
    organisation: str | None = None
    """Who trained it."""
    summary: str | None = None
    """What it is, in a few sentences."""
    papers: tuple[Paper, ...] = ()
    """Papers that describe it."""
    homepage: HttpUrl | None = None
    """Its page."""
    pretraining_tokens: int | None = Field(default=None, gt=0)
    """Tokens that its models were trained on."""
    licence: Licence
    """What one may do with its models."""
    claims: Claims = Field(default_factory=dict)
    """Values of ``model_type`` in ``config.json`` for which this family speaks, each with what such a file leaves
    unsaid: quirks that follow from the type, and defaults of absent keys."""
    model_type: ModelType | None = None
    """The ``model_type`` of the models' checkpoints; by default the one that the family claims."""
    architecture: ArchitectureFields = ArchitectureFields()
    """Numbers and quirks that all its models have; a model's own win."""
    tokens: Tokens = Tokens()
    """Special tokens of all its models."""
    chat_template: str | None = None
    """Jinja template over ``messages`` of all its models; absent, each checkpoint's own is used."""
    tools: ToolFormat | None = None
    """How the models write calls of tools; a model's own wins."""
    thinking: Thinking | None = None
    """How the models mark their thoughts; a model's own wins."""
    embedding: EmbeddingUse | None = None
    """How the models embed or rank texts; a model's own wins, whole."""
    datasets: DatasetUses = DatasetUses()
    """Which datasets it is calibrated, measured and scored with."""
    targets: TargetOptions = Field(default_factory=dict)
    """What the family changes of a target's defaults; the target's own options model checks it."""
    tested_versions: dict[str, str] = Field(default_factory=dict)
    """Versions of tools and libraries that the family was tested with."""
    notes: tuple[str, ...] = ()
    """What a user should know."""
    models: Annotated[tuple[Model, ...], Field(min_length=1)]
    """Its models; one that is based on another comes after it."""

    @model_validator(mode="after")
    def _check(self) -> Family:
        depths: dict[str, int] = {}
        for index, model in enumerate(self.models):
            at = ("models", index)
            if model.name in depths:
                raise Misplaced((*at, "name"), f"model {model.name!r} is declared twice; rename one")
            if model.base is not None and model.base.startswith(f"{self.name}/"):
                raise Misplaced((*at, "base"), f"the base is of this family; name it without {self.name!r}")
            if model.base is not None and "/" not in model.base and model.base not in depths:
                raise Misplaced(
                    (*at, "base"),
                    f"model {model.name!r} is based on {model.base!r}, which is not declared above it; "
                    "a model of another family is named family/model",
                )
            depth = depths.get(model.base or "", 0) + 1
            if depth > MAX_BASES:
                raise Misplaced(
                    (*at, "base"),
                    f"model {model.name!r} is the last of {depth} models based on each other; name an earlier base",
                )
            depths[model.name] = depth
        return self

    @cached_property
    def positions(self) -> dict[str, int]:
        """Where each model stands in ``models``, by name."""
        return {model.name: index for index, model in enumerate(self.models)}

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Family:
        """Copy the family; what was computed of its models is not copied with them."""
        copied = super().model_copy(update=update, deep=deep)
        copied.__dict__.pop("positions", None)
        return copied

    def claim(self, model_type: str) -> ArchitectureFields | None:
        """What a ``config.json`` of this type leaves unsaid; None where the family does not claim the type."""
        return self.claims.get(model_type)

    def lineage(self, model: Model) -> tuple[Model, ...]:
        """List ``model`` and what it is based on in this family, root first; the root may name a base elsewhere."""
        chain = [model]
        while (base := chain[-1].base) is not None and "/" not in base:
            chain.append(self.models[self.positions[base]])
        return tuple(reversed(chain))
