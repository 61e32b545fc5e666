"""Names → things: what the loaded plugins declared, found by name."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from pydantic import ValidationError

from zoo.declarations.architecture import Architecture
from zoo.declarations.dataset import Dataset
from zoo.declarations.family import Family, Model, Tokens
from zoo.declarations.licence import Licence
from zoo.errors import UsageError, ZooError, unknown
from zoo.families import Families
from zoo.yamlfile import explain

if TYPE_CHECKING:
    import typer

    from zoo.contracts import ArchitecturePart, Engine, Quantizer, Source, Target, Transform


UNCONFIRMED = ", unconfirmed"
"""What follows the origin of a number for which no page was found."""


class UnknownBase(ZooError):
    """A fine-tune of a model that nobody declared, or nobody yet."""


@dataclass(frozen=True)
class DeclaredFamily:
    """A family and where its declaration came from."""

    family: Family
    plugin: str
    path: Path | None = None
    """The declaring YAML, if it is one; weights that a plugin ships are found beside it."""
    known: Families = field(default_factory=Families, repr=False, compare=False)
    """The families among which ``base: family/model`` is looked up: those of the registry that holds this one."""

    @cached_property
    def models(self) -> tuple[DeclaredModel, ...]:
        """The family's models, each with all that it inherits."""
        return tuple(DeclaredModel(self, model) for model in self.family.models)

    def model(self, name: str) -> DeclaredModel | None:
        """Find a model of the family by its own name."""
        position = self.family.positions.get(name)
        return None if position is None else self.models[position]

    def claimants(self, model_type: str | None) -> list[Family]:
        """List the families that speak for a ``model_type``, this one among them if it does."""
        if model_type is None:
            return []
        others = [other.family for other in self.known.claimants(model_type) if other.family.name != self.family.name]
        return [*others, self.family] if model_type in self.family.claims else others

    def foreign_bases(self) -> list[str]:
        """List the models of other families that models of this one are based on, as ``family/model``."""
        return [model.base for model in self.family.models if model.base is not None and "/" in model.base]

    def find_base(self, name: str) -> DeclaredModel:
        """Find ``family/model`` among the known families.

        Raises:
            ZooError: nobody declared it; the nearest names are offered.
        """
        family, _, model_name = name.partition("/")
        model = self.known[family].model(model_name) if family in self.known else None
        if model is None:
            names = [model.full_name for family in self.known.values() for model in family.models]
            raise UnknownBase(str(unknown("base", name, names, "is the plugin that declares it installed?")))
        return model


@dataclass(frozen=True)
class DeclaredModel:
    """A model with everything it inherits: the family's fields, then those of its bases, then its own.

    Where the base is of another family, that family's fields and the base's come before.
    """

    declared_in: DeclaredFamily
    model: Model

    @property
    def name(self) -> str:
        return self.model.name

    @property
    def family(self) -> Family:
        return self.declared_in.family

    @property
    def full_name(self) -> str:
        """``family/model``, which is never ambiguous."""
        return f"{self.family.name}/{self.name}"

    @cached_property
    def _layers(self) -> list[tuple[str, Family | Model]]:
        """What is inherited from, the most general first, each with the name of its origin."""
        layers: list[tuple[str, Family | Model]] = []
        seen: list[str] = []
        model: DeclaredModel | None = self
        while model is not None:
            if model.full_name in seen:
                raise ZooError(f"model {self.full_name} is based on itself: {' on '.join([*seen, model.full_name])}")
            seen.append(model.full_name)
            chain = model.family.lineage(model.model)
            own = [(f"model {model.name}", model) for model in chain]
            layers = [(f"family {model.family.name}", model.family), *own, *layers]
            base = chain[0].base
            model = model.declared_in.find_base(base) if base is not None else None
        return layers

    @cached_property
    def stated(self) -> dict[str, tuple[Any, str]]:
        """Every architecture number that a declaration states: field → (value, origin)."""
        merged: dict[str, tuple[Any, str]] = {}
        model_type = self.model_type
        for family in self.declared_in.claimants(model_type):
            claim = family.claim(model_type) if model_type is not None else None
            for name in claim.model_fields_set if claim is not None else ():
                merged[name] = (getattr(claim, name), f"model_type {model_type}")
        for origin, layer in self._layers:
            doubted = getattr(layer, "unconfirmed", ())
            for name in layer.architecture.model_fields_set:
                shown = f"{origin}{UNCONFIRMED}" if name in doubted else origin
                merged[name] = (getattr(layer.architecture, name), shown)
        return merged

    @cached_property
    def architecture(self) -> Architecture:
        """The complete numbers.

        Raises:
            ZooError: the declarations together leave a number out, or contradict each other.
        """
        try:
            return Architecture.model_validate({name: value for name, (value, _) in self.stated.items()})
        except ValidationError as error:
            first = error.errors()[0]
            where = "".join(f"{step}: " for step in first["loc"])
            raise ZooError(f"model {self.full_name}: architecture: {where}{explain(first)}") from None

    def last(self, name: str) -> tuple[Any, str | None]:
        """Find the most particular statement of a field, with its origin; (None, None) where nobody states it."""
        latest: tuple[Any, str | None] = (None, None)
        for origin, layer in self._layers:
            value = getattr(layer, name, None)
            if value is not None:
                latest = (value, origin)
        return latest

    def of_its_maker(self, name: str) -> tuple[Any, str | None]:
        """The same of what a family says about itself: a base of another family lends numbers, not words."""
        family = self.declared_in.family
        own = [
            (f"family {family.name}", family),
            *((f"model {model.name}", model) for model in family.lineage(self.model)),
        ]
        stated = [(value, origin) for origin, layer in own if (value := getattr(layer, name, None)) is not None]
        return stated[-1] if stated else (None, None)

    @cached_property
    def model_type(self) -> str | None:
        """The ``model_type`` of the model's checkpoint, where declarations say it."""
        for _, layer in reversed(self._layers):
            if layer.model_type is not None:
                return layer.model_type
            claims = layer.claims if isinstance(layer, Family) else ()
            if len(claims) == 1:
                return next(iter(claims))
        return None

    @property
    def licence(self) -> Licence:
        return cast(Licence, self.last("licence")[0])

    @property
    def chat_template(self) -> str | None:
        return cast("str | None", self.last("chat_template")[0])

    @property
    def chat(self) -> bool | None:
        """Whether the model is tuned to converse, where a declaration says so."""
        return cast("bool | None", self.last("chat")[0])

    @property
    def pretraining_tokens(self) -> int | None:
        return cast("int | None", self.last("pretraining_tokens")[0])

    @property
    def tokens(self) -> Tokens:
        """Special tokens, field by field the most particular statement."""
        merged: dict[str, Any] = {}
        for _, layer in self._layers:
            if layer.tokens is not None:
                merged |= {name: getattr(layer.tokens, name) for name in layer.tokens.model_fields_set}
        return Tokens.model_validate(merged)

    def target_options(self, target: str) -> dict[str, Any]:
        """What family and models change of a target's defaults."""
        merged: dict[str, Any] = {}
        for _, layer in self._layers:
            merged |= layer.targets.get(target, {})
        return merged

    def token_origin(self, name: str) -> str | None:
        """Say which declaration a special token came from."""
        return next(
            (o for o, layer in reversed(self._layers) if layer.tokens and name in layer.tokens.model_fields_set), None
        )

    def target_origin(self, target: str, option: str) -> str | None:
        """Say which declaration changed an option of a target."""
        return next((o for o, layer in reversed(self._layers) if option in layer.targets.get(target, {})), None)

    def origin(self, name: str) -> str | None:
        """Say which declaration a field of the model came from."""
        return self.last(name)[1]

    @property
    def weights_folder(self) -> Path | None:
        """The folder of weights that the plugin ships, if it does."""
        path, declared = self.model.weights.path, self.declared_in.path
        if path is None:
            return None
        if declared is None:
            raise ZooError(f"model {self.full_name}: weights.path {path!r} needs a declaration in a file")
        return declared.parent / path


OF_WEIGHTS = frozenset({"head_multiple", "view", "encoding", "place", "headers", "files"})
"""What a target states only where it takes weights."""


@dataclass
class Registry:
    """Everything that the loaded plugins brought."""

    families: Families = field(default_factory=Families)
    datasets: dict[str, Dataset] = field(default_factory=dict)
    sources: dict[str, str] = field(default_factory=dict)
    transforms: dict[str, str] = field(default_factory=dict)
    architectures: dict[str, str] = field(default_factory=dict)
    quantizers: dict[str, str] = field(default_factory=dict)
    targets: dict[str, str] = field(default_factory=dict)
    tasks: dict[str, str | Path | Mapping[str, Any]] = field(default_factory=dict)
    commands: dict[str, typer.Typer] = field(default_factory=dict)
    """Command name → the Typer app of the plugin that brought it."""
    owners: dict[tuple[str, str], str] = field(default_factory=dict, repr=False)
    """Kind and name of a part, task or command → the plugin that brought it."""
    _parts: dict[str, Any] = field(default_factory=dict, repr=False)
    _lacks: dict[tuple[type, str], list[str]] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        if not isinstance(self.families, Families):
            self.families = Families(self.families)

    def models(self) -> Iterator[DeclaredModel]:
        """Go through every declared model, family by family."""
        for family in self.families.values():
            yield from family.models

    def find(self, name: str) -> DeclaredModel | None:
        """Find a declared model by ``model`` or ``family/model``; None where nobody declared it.

        Raises:
            UsageError: several families declare the bare name.
        """
        family, slash, model_name = name.partition("/")
        if slash:
            return self.families[family].model(model_name) if family in self.families else None
        matches = [model for family in self.families.values() if (model := family.model(name)) is not None]
        if len(matches) > 1:
            names = " or ".join(model.full_name for model in matches)
            raise UsageError(f"several families declare a model {name!r}; say {names}")
        return matches[0] if matches else None

    def model(self, name: str) -> DeclaredModel:
        """Find a declared model.

        Raises:
            UsageError: nobody declared it (the nearest names are offered), or several did.
        """
        declared = self.find(name)
        if declared is None:
            names = [model.name for model in self.models()] + [
                model.full_name for model in self.models() if "/" in name
            ]
            raise unknown("model", name, names, "`zoo list` shows them; a checkpoint folder or a hub id works too")
        return declared

    def claimant(self, model_type: str) -> DeclaredFamily | None:
        """Find the family that speaks for checkpoints of this ``model_type``."""
        return next(iter(self.families.claimants(model_type)), None)

    def dataset(self, name: str) -> Dataset:
        """Find a declared dataset."""
        if name not in self.datasets:
            raise unknown("dataset", name, self.datasets)
        return self.datasets[name]

    def source(self, name: str) -> Source:
        """Get the source of this name, imported on first use."""
        return cast("Source", self._part("source", self.sources, name)())

    def transform(self, name: str) -> Transform:
        """Get the transform of this name, imported on first use."""
        return cast("Transform", self._part("transform", self.transforms, name)())

    def architecture(self, name: str) -> ArchitecturePart:
        """Get the architecture part of this name, imported on first use."""
        return cast("ArchitecturePart", self._part("architecture", self.architectures, name)())

    def quantizer(self, name: str) -> type[Quantizer]:
        """Get the quantizer class of this name, imported on first use.

        Raises:
            ZooError: it cannot be imported, or lacks what a quantizer offers.
        """
        from zoo.contracts.quantizer import Quantizer

        part = self._part("quantizer", self.quantizers, name)
        if lacking := self._lacking(Quantizer, self.quantizers[name]):
            raise ZooError(f"quantizer {name!r} ({self.quantizers[name]}) does not offer {', '.join(lacking)}")
        return cast("type[Quantizer]", part)

    def target(self, name: str) -> Target:
        """Get the target part of this name, imported on first use.

        Raises:
            ZooError: it cannot be imported, or lacks what a target states.
        """
        from zoo.contracts.target import Target

        part = self._part("target", self.targets, name)
        lacking = self._lacking(Target, self.targets[name])
        if not getattr(part, "needs_weights", True):
            lacking = [member for member in lacking if member not in OF_WEIGHTS]
        if lacking:
            raise ZooError(f"target {name!r} ({self.targets[name]}) does not state {', '.join(lacking)}")
        return cast("Target", part())

    def engine(self, target: str, name: str) -> type[Engine]:
        """Get an engine of a target, imported on first use.

        Raises:
            ZooError: it cannot be imported.
        """
        return cast("type[Engine]", self._part("engine", dict(self.target(target).engines), name))

    def _part(self, kind: str, table: dict[str, str], name: str) -> Any:
        if name not in table:
            raise unknown(kind, name, table)
        key = table[name]
        if key not in self._parts:
            module, _, attribute = key.partition(":")
            try:
                self._parts[key] = getattr(importlib.import_module(module), attribute)
            except Exception as error:
                raise ZooError(
                    f"{kind} {name!r} ({key}) cannot be imported: {type(error).__name__}: {error}"
                ) from error
        return self._parts[key]

    def _lacking(self, protocol: type, key: str) -> list[str]:
        """List what an imported part lacks of what its contract names: values of the class, and methods."""
        if (protocol, key) not in self._lacks:
            values = [name for name, kind in protocol.__annotations__.items() if str(kind).startswith("ClassVar")]
            methods = [name for name, member in vars(protocol).items() if inspect.isfunction(member) and name[0] != "_"]
            self._lacks[protocol, key] = [name for name in (*values, *methods) if not hasattr(self._parts[key], name)]
        return self._lacks[protocol, key]
