"""What one plugin registers: collected first, checked, and moved into the registry all at once or not at all."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.declarations.dataset import Dataset, DatasetsFile
from zoo.declarations.family import Family
from zoo.errors import ZooError
from zoo.families import Families
from zoo.registry import DeclaredFamily, Registry
from zoo.yamlfile import Document

if TYPE_CHECKING:
    import typer

CORE_COMMANDS = frozenset(
    (
        "list", "show", "plugins", "fetch", "build", "verify", "run", "bench", "eval", "report", "doctor", "validate",
        "catalog", "rm", "prepare", "embed", "rerank", "plan", "install", "uninstall", "upgrade",
        "search", "alias", "gc",
    )
)  # fmt: skip
"""Commands that no plugin may take; a test compares them with the command line."""

_PART = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")


class SourceAdder:
    """The ``register`` of ``register_sources``: called for a source, ``.transform`` for a transform."""

    def __init__(self, source: Callable[[str, str], None], transform: Callable[[str, str], None]) -> None:
        self._source, self.transform = source, transform

    def __call__(self, name: str, target: str, /) -> None:
        self._source(name, target)


@dataclass
class Collected:
    """What one plugin registered, before it is known to be good."""

    plugin: str
    families: list[DeclaredFamily] = field(default_factory=list)
    datasets: list[Dataset] = field(default_factory=list)
    sources: dict[str, str] = field(default_factory=dict)
    transforms: dict[str, str] = field(default_factory=dict)
    architectures: dict[str, str] = field(default_factory=dict)
    quantizers: dict[str, str] = field(default_factory=dict)
    targets: dict[str, str] = field(default_factory=dict)
    tasks: dict[str, str | Path | Mapping[str, Any]] = field(default_factory=dict)
    commands: dict[str, typer.Typer] = field(default_factory=dict)

    def add_family(self, family: str | Path | Family, /) -> None:
        """Take a family, from its YAML or as a model."""
        if isinstance(family, Family):
            declared = DeclaredFamily(family, self.plugin)
            document = None
        else:
            document = Document(_path(family, "register_families"))
            declared = DeclaredFamily(document.validate(Family), self.plugin, document.path)
        for index, model in enumerate(declared.models):
            if any("/" in (member.base or "") for member in declared.family.lineage(model.model)):
                continue  # its numbers come from another family, which may not be loaded yet; commit looks
            try:
                _ = model.architecture
            except ZooError as error:
                if document is None:
                    raise
                raise ZooError(str(document.problem(("models", index), str(error)))) from None
        if any(declared.family.name == family.family.name for family in self.families):
            raise ZooError(f"registers the family {declared.family.name!r} twice")
        self.families.append(declared)

    def add_dataset(self, dataset: str | Path | Dataset, /) -> None:
        """Take a dataset, or a YAML of datasets."""
        if isinstance(dataset, Dataset):
            self.datasets.append(dataset)
        else:
            self.datasets += Document(_path(dataset, "register_datasets")).validate(DatasetsFile).datasets

    def part_adder(self, kind: str, table: dict[str, str]) -> Callable[[str, str], None]:
        """Make the ``register`` of one kind of part."""

        def register(name: str, target: str, /) -> None:
            _check_name(kind, name)
            if not isinstance(target, str) or not _PART.fullmatch(target):
                raise ZooError(f"{kind} {name!r}: {target!r} is not of the form 'package.module:Class'")
            if name in table:
                raise ZooError(f"registers the {kind} {name!r} twice")
            table[name] = target

        return register

    def source_adder(self) -> SourceAdder:
        """Make the ``register`` of sources, which takes transforms too."""
        return SourceAdder(self.part_adder("source", self.sources), self.part_adder("transform", self.transforms))

    def add_task(self, name: str, task: str | Path | Mapping[str, Any], /) -> None:
        """Take an evaluation task."""
        _check_name("task", name)
        if not isinstance(task, Mapping) and not _path(task, "register_tasks").is_file():
            raise ZooError(f"task {name!r}: there is no file {task}")
        if name in self.tasks:
            raise ZooError(f"registers the task {name!r} twice")
        self.tasks[name] = task

    def registered(self) -> dict[str, tuple[str, ...]]:
        """Name what was registered, by kind."""
        kinds = {
            "families": [family.family.name for family in self.families],
            "models": [model.name for family in self.families for model in family.models],
            "datasets": [dataset.name for dataset in self.datasets],
            "sources": self.sources,
            "transforms": self.transforms,
            "architectures": self.architectures,
            "quantizers": self.quantizers,
            "targets": self.targets,
            "tasks": self.tasks,
            "commands": self.commands,
        }
        return {kind: tuple(names) for kind, names in kinds.items() if names}

    def commit(self, registry: Registry) -> None:
        """Move everything into the registry, or raise at the first clash and move nothing.

        Raises:
            UnknownBase: a fine-tune's base is of a family that the registry does not hold yet.
        """
        self._check_families(registry)
        datasets = dict(registry.datasets)
        for dataset in self.datasets:
            if datasets.setdefault(dataset.name, dataset) != dataset:
                raise ZooError(f"the dataset {dataset.name!r} is already declared, differently")
        tables: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
            ("source", self.sources, registry.sources),
            ("transform", self.transforms, registry.transforms),
            ("architecture", self.architectures, registry.architectures),
            ("quantizer", self.quantizers, registry.quantizers),
            ("target", self.targets, registry.targets),
            ("task", self.tasks, registry.tasks),
            ("command", self.commands, registry.commands),
        ]
        for kind, mine, theirs in tables:
            for name in mine:
                if name in theirs or (kind == "command" and name in CORE_COMMANDS):
                    owner = registry.owners.get((kind, name), "core")
                    whose = "zoo itself" if owner == "core" else f"plugin {owner!r}"
                    raise ZooError(f"the {kind} {name!r} is already taken by {whose}")
        for declared in self.families:
            registry.families[declared.family.name] = replace(declared, known=registry.families)
        registry.datasets = datasets
        for kind, mine, theirs in tables:
            theirs |= mine
            registry.owners |= {(kind, name): self.plugin for name in mine}

    def _check_families(self, registry: Registry) -> None:
        """Compare names, claims and bases with those of the registry, and with each other."""
        mine = Families()
        for declared in self.families:
            name = declared.family.name
            if name in registry.families:
                raise ZooError(f"the family {name!r} is already declared by plugin {registry.families[name].plugin!r}")
            for model_type in declared.family.claims:
                claimant = next(iter([*registry.families.claimants(model_type), *mine.claimants(model_type)]), None)
                if claimant is not None:
                    raise ZooError(
                        f"family {name!r} of plugin {self.plugin!r} claims model_type {model_type!r}, which family "
                        f"{claimant.family.name!r} of plugin {claimant.plugin!r} already claims; "
                        f"ZOO_PLUGINS=-{claimant.plugin} leaves that one out"
                    )
            mine[name] = declared
        based = [declared for declared in self.families if declared.foreign_bases()]
        if based:
            known = Families({**registry.families, **mine})
            for declared in based:
                for model in replace(declared, known=known).models:
                    _ = model.architecture


def _path(value: Any, hook: str) -> Path:
    if not isinstance(value, str | Path):
        raise ZooError(f"{hook}: expected a path or a declaration, got {type(value).__name__}")
    return Path(value)


def _check_name(kind: str, name: Any) -> None:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ZooError(f"{name!r} is not a name for a {kind}: use lower case letters, digits, dots and dashes")
