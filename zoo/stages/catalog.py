"""Registry and reports → cards → a folder of pages. Nothing that is not declared or recorded enters it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from zoo.catalog.cards import BuildCost, Fact, FamilyCard, ModelCard, Refused, Written, Zoo
from zoo.catalog.costs import Numbers
from zoo.catalog.folder import check_place, publish_site
from zoo.catalog.outline import outline
from zoo.catalog.parts import quantizer_card, target_card
from zoo.catalog.site import site
from zoo.declarations.architecture import Architecture
from zoo.declarations.dataset import DatasetUses
from zoo.declarations.recipe import Recipe
from zoo.declarations.report import Report
from zoo.errors import ZooError
from zoo.operations import missing
from zoo.plugins import PluginRecord
from zoo.registry import DeclaredModel, Registry
from zoo.reports import latest_verification
from zoo.results import all_reports, ladder
from zoo.stages.describe import Field, declared_fields
from zoo.stages.listing import DEFAULT_TARGET
from zoo.stages.resolve import declared_facts, pin_declared
from zoo.toolchain import DocumentTarget, TargetContext

T = TypeVar("T")


def write_catalog(
    registry: Registry, output: Path, *, brought_by: Mapping[tuple[str, str], str], reports: Iterable[Report] | None
) -> dict[str, int]:
    """Write the catalog into a folder, whole or not at all.

    Args:
        registry: what was declared.
        output: the folder; one that an earlier catalog made is replaced.
        brought_by: (kind, name) of a part → the plugin that brought it.
        reports: what was measured; None takes those under ``$ZOO_HOME`` and those that plugins ship.

    Returns:
        How many models, families, pages and bytes it has.

    Raises:
        ZooError: something else stands in the folder, or it cannot be written.
    """
    check_place(output)
    zoo = collect(registry, brought_by, all_reports(registry) if reports is None else reports)
    files, size = publish_site(output, site(zoo))
    return {"models": len(zoo.models), "families": len(zoo.families), "files": files, "bytes": size}


def parts_by_plugin(records: Iterable[PluginRecord]) -> dict[tuple[str, str], str]:
    """Say which plugin brought what: (kind, name) → plugin."""
    return {
        (kind, name): record.name for record in records for kind, names in record.registered.items() for name in names
    }


def collect(registry: Registry, brought_by: Mapping[tuple[str, str], str], reports: Iterable[Report]) -> Zoo:
    """Collect what the pages show."""
    measured: dict[tuple[str | None, str], list[Report]] = {}
    for report in sorted(reports, key=lambda one: (one.measured_at, one.recipe_hash, one.kind)):
        measured.setdefault((report.family, report.model), []).append(report)
    times = Counter(model.name for model in registry.models())
    shared = Shared(registry)
    models = tuple(
        model_card(
            shared,
            model,
            model.name if times[model.name] == 1 else model.full_name,
            measured.get((model.family.name, model.name), []),
        )
        for model in sorted(registry.models(), key=lambda one: (one.family.name, one.name))
    )
    return Zoo(
        families=tuple(
            FamilyCard(family=declared.family, plugin=declared.plugin)
            for declared in sorted(registry.families.values(), key=lambda one: one.family.name)
        ),
        models=models,
        targets=tuple(target_card(registry, name, brought_by.get(("targets", name))) for name in registry.targets),
        quantizers=tuple(
            quantizer_card(registry, name, brought_by.get(("quantizers", name))) for name in registry.quantizers
        ),
        datasets=tuple(registry.datasets[name] for name in sorted(registry.datasets)),
        default_target=DEFAULT_TARGET,
    )


class Shared:
    """What models have in common, made and kept once: a zoo of thousands has few architectures."""

    def __init__(self, registry: Registry) -> None:
        self.registry = registry
        self._known: dict[object, Any] = {}
        self._file_names: dict[tuple[str, str], tuple[str, ...]] = {}

    def once(self, key: object, make: Callable[[], T]) -> T:
        """Make a value unless one of this key is known."""
        if key not in self._known:
            self._known[key] = make()
        value: T = self._known[key]
        return value

    def numbers(self, architecture: Architecture) -> Numbers:
        """The weights that an architecture's numbers make."""
        return Numbers(architecture, self.registry, self._file_names)

    def facts(self, section: Mapping[str, Field]) -> dict[str, Fact]:
        """The facts of a section; sections that say the same are one."""
        key = tuple((name, _hashable(field.value), field.origin) for name, field in section.items())
        return self.once(
            ("facts", key),
            lambda: {name: Fact(value=field.value, origin=field.origin) for name, field in section.items()},
        )


def _hashable(value: Any) -> object:
    """Tell a JSON value from every other one, True from 1 too."""
    return value if isinstance(value, str) else repr(value)


_CARD_FIELDS = set(ModelCard.model_fields)


def model_card(shared: Shared, model: DeclaredModel, name: str, reports: list[Report]) -> ModelCard:
    """Collect what is known of a model.

    Args:
        name: what commands call it.
        reports: of this model, oldest first.
    """
    registry = shared.registry
    key = model.architecture.model_dump_json()
    numbers = shared.once(("numbers", key), lambda: shared.numbers(model.architecture))
    architecture, parameters = numbers.architecture, numbers.parameters
    part = registry.architecture(architecture.type)
    known = declared_facts(registry, model, look=False)
    builds: list[BuildCost] = []
    documents: list[Written] = []
    refused: list[Refused] = []
    for target_name in registry.targets:
        try:
            target = registry.target(target_name)
        except ZooError:
            continue  # its own page says why
        if shared.once(("missing", key, target_name), lambda target=target: missing(part, architecture, target)):  # type: ignore[misc]
            continue
        for precision in target.precisions:
            try:
                recipe = pin_declared(registry, model, target_name, precision, known)
                if target.needs_weights:
                    same = (key, recipe.quantizer.model_dump_json(), recipe.target.model_dump_json(), precision)
                    builds.append(shared.once(same, lambda recipe=recipe: numbers.cost(recipe)))  # type: ignore[misc]
                elif isinstance(target, DocumentTarget):
                    documents.append(written(registry, model, target, recipe, parameters))
            except ZooError as error:
                refused.append(Refused(target=target_name, precision=precision, reason=str(error)))
    default = [build.precision for build in builds if build.target == DEFAULT_TARGET]
    sections = declared_fields(registry, model, parameters)
    # Not validated: that would copy what models share.
    return ModelCard.model_construct(
        _CARD_FIELDS,
        name=name,
        model=model.name,
        family=model.family.name,
        title=model.model.title or model.name,
        chat=bool(model.chat),
        parameters=parameters,
        attention=architecture.attention,
        context_length=architecture.context_length,
        architecture=architecture,
        licence=model.licence,
        weights=model.model.weights.hub,
        shares=shared.once(("shares", key), numbers.shares),
        layer=shared.once(("layer", key), numbers.layer),
        outline=shared.once(("outline", key), lambda: outline(part, architecture)),
        precisions=tuple(default),
        builds=shared.once(("builds", *map(id, builds)), lambda: tuple(builds)),
        documents=tuple(documents),
        refused=tuple(refused),
        verified=verified(reports),
        reports=tuple(reports),
        rungs=ladder(model, reports),
        facts={section: shared.facts(fields) for section, fields in sections.items()},
    )


def verified(reports: Iterable[Report]) -> tuple[str, ...]:
    """Name the precisions of which every build that was verified passed, those of other weights aside."""
    by_build: dict[tuple[str, str], list[Report]] = {}
    for report in reports:
        if report.kind == "verify" and report.own_weights is not False:
            by_build.setdefault((report.precision, report.recipe_hash), []).append(report)
    passed: dict[str, bool] = {}
    for (precision, _), found in by_build.items():
        latest = latest_verification(found)
        passed[precision] = passed.get(precision, True) and latest is not None and latest.passed is True
    return tuple(sorted(precision for precision, good in passed.items() if good))


def written(
    registry: Registry, model: DeclaredModel, target: DocumentTarget, recipe: Recipe, parameters: int
) -> Written:
    """Make the files that a target writes for other tools, as on a machine that has nothing yet.

    Raises:
        ZooError: the target refuses the recipe.
    """
    target.check(recipe)
    uses: DatasetUses = model.family.datasets
    names = {*(use.dataset for use in uses.calibration), *uses.performance, *uses.accuracy}
    weights = model.model.weights
    context = TargetContext(
        weights_name=(weights.hub or model.name).rsplit("/", 1)[-1],
        weights=None,
        hub=weights.hub,
        revision=weights.revision,
        parameters=parameters,
        chat=bool(model.chat),
        uses=uses,
        datasets={name: registry.datasets[name] for name in sorted(names) if name in registry.datasets},
    )
    return Written(
        target=recipe.target.name,
        precision=recipe.precision,
        files={name: raw.decode("utf-8", "replace") for name, raw in target.documents(recipe, context)},
        commands=tuple(command.line for command in target.commands(recipe, context)),
    )
