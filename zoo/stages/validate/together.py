"""Judge declarations against each other: names that clash, weights declared twice, datasets declared differently."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

from zoo.declarations.architecture import Architecture
from zoo.declarations.dataset import Dataset
from zoo.declarations.traits import Trait, fields_with
from zoo.errors import ZooError
from zoo.plugins import GROUP, Host
from zoo.registry import DeclaredFamily, DeclaredModel, Registry
from zoo.stages.validate.findings import Page
from zoo.yamlfile import Location

TOLD = 3
"""Of how many others a clash is told; a name that a thousand families take is one mistake, not a thousand."""


class Others:
    """What the families before declare: the names, claims and weights that the next one may clash with."""

    def __init__(self, families: Iterable[DeclaredFamily]) -> None:
        self._families: dict[str, list[DeclaredFamily]] = {}
        self._claims: dict[str, list[DeclaredFamily]] = {}
        self._models: dict[str, list[DeclaredFamily]] = {}
        self._weights: dict[tuple[str, str], DeclaredModel] = {}
        for family in families:
            self.add(family)
            for model in family.models:
                self._claim_weights(model)

    def add(self, family: DeclaredFamily) -> None:
        """Remember what a family declares, for those after it."""
        self._families.setdefault(family.family.name, []).append(family)
        for claim in family.family.claims:
            self._claims.setdefault(claim, []).append(family)
        for model in family.models:
            self._models.setdefault(model.name, []).append(family)

    def check_names(self, page: Page, mine: DeclaredFamily) -> None:
        """Find families, claims and models that somebody else declares too."""
        for other in self._families.get(mine.family.name, [])[:TOLD]:
            page.error(("name",), f"the family {other.family.name!r} is declared by {_whose(other)} too", "rename one")
        for index, claim in enumerate(mine.family.claims):
            listed = page.document is not None and isinstance(page.document.data["claims"], list)
            for other in self._claims.get(claim, [])[:TOLD]:
                page.error(
                    ("claims", index if listed else claim),
                    f"family {other.family.name!r} of {_whose(other)} already claims model_type {claim!r}",
                    "state it as `model_type` instead, or leave the other out: ZOO_PLUGINS=-NAME",
                )
        for index, model in enumerate(mine.models):
            for other in self._models.get(model.name, [])[:TOLD]:
                page.warn(
                    ("models", index, "name"),
                    f"family {other.family.name!r} declares a model {model.name!r} too",
                    f"users will have to write {model.full_name}",
                )

    def check_weights(self, page: Page, mine: DeclaredFamily) -> None:
        """Find the same weights declared twice; with other numbers that is a contradiction."""
        for index, model in enumerate(mine.models):
            at: Location = ("models", index, "weights")
            first = self._claim_weights(model)
            if first is None:
                continue
            hub = model.model.weights.hub
            differing = _differing(model, first)
            if differing:
                name, one, two = differing
                message = f"{hub} is declared as {first.full_name} too, with {name} {two}, not {one}"
                page.error(at, message, "one of them is wrong")
            else:
                page.warn(at, f"{hub} is declared as {first.full_name} too", "remove one of them")

    def _claim_weights(self, model: DeclaredModel) -> DeclaredModel | None:
        """Note who declares weights first; None where this model does."""
        weights = model.model.weights
        if weights.hub is None:
            return None
        first = self._weights.setdefault((weights.hub.lower(), weights.revision), model)
        return None if first is model else first


def check_dataset(page: Page, at: Location, dataset: Dataset, registry: Registry) -> None:
    """Find a dataset that is declared elsewhere, differently."""
    known = registry.datasets.get(dataset.name)
    if known is not None and known != dataset:
        differing = [name for name in Dataset.model_fields if getattr(known, name) != getattr(dataset, name)]
        page.error(at, f"the dataset {dataset.name!r} is already declared with other {', '.join(differing)}")


def comes_from(host: Host, dataset: str, file: Path) -> bool:
    """Tell whether a loaded dataset was declared by the plugin in whose folder this file lies."""
    for record in host.records:
        if dataset not in record.registered.get("datasets", ()):
            continue
        for point in metadata.entry_points(group=GROUP, name=record.name):
            spec = importlib.util.find_spec(point.value.partition(":")[0].strip())
            if spec is not None and spec.origin and file.resolve().is_relative_to(Path(spec.origin).resolve().parent):
                return True
    return False


def _whose(other: DeclaredFamily) -> str:
    return f"plugin {other.plugin!r}" if other.path is None or other.plugin else str(other.path)


def _differing(one: DeclaredModel, two: DeclaredModel) -> tuple[str, object, object] | None:
    try:
        mine, theirs = one.architecture, two.architecture
    except ZooError:  # said elsewhere
        return None
    for name in sorted(fields_with(Architecture, Trait.SHAPES)):
        if getattr(mine, name) != getattr(theirs, name):
            return name, getattr(mine, name), getattr(theirs, name)
    return None
