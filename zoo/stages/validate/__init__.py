"""Judge declarations before anyone builds them: schema, references, targets' rules, contradictions, hub files."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from zoo.declarations.dataset import DatasetsFile
from zoo.declarations.family import Family
from zoo.errors import UsageError
from zoo.families import Families
from zoo.plugins import Host
from zoo.registry import DeclaredFamily, Registry
from zoo.sources.hub import is_offline
from zoo.stages.validate.family import builds, check_family
from zoo.stages.validate.findings import Finding, Page, Validation
from zoo.stages.validate.online import Question, ask_hub, dataset_questions, family_questions
from zoo.stages.validate.reading import read, yaml_files
from zoo.stages.validate.together import Others, check_dataset, comes_from

__all__ = ["Finding", "Validation", "validate"]


def validate(host: Host, subjects: Sequence[str]) -> Validation:
    """Judge files, folders or loaded plugins.

    Raises:
        UsageError: there is no such file, folder or plugin.
    """
    pages: list[Page] = []
    families: list[tuple[Page, DeclaredFamily]] = []
    datasets: list[tuple[Page, DatasetsFile]] = []
    for path, named in _paths(host, subjects, pages, families):
        found = read(path, named=named)
        if found is None:
            continue
        page, declaration = found
        pages.append(page)
        if isinstance(declaration, Family):
            families.append((page, DeclaredFamily(declaration, "", path)))
        elif declaration is not None:
            datasets.append((page, declaration))
    if not pages:
        raise UsageError(f"{' '.join(subjects)}: no YAML there declares models or datasets")
    registry = _without(host.registry, [one.path for _, one in families if one.path is not None])
    for page, file in datasets:
        for dataset in file.datasets:
            if comes_from(host, dataset.name, Path(page.name)):
                registry.datasets.pop(dataset.name, None)
    _judge(registry, families, datasets)
    findings = [finding for page in pages for finding in sorted(page.findings, key=lambda one: (one.line, one.column))]
    return Validation(files=tuple(page.name for page in pages), findings=tuple(findings))


def _paths(
    host: Host, subjects: Iterable[str], pages: list[Page], families: list[tuple[Page, DeclaredFamily]]
) -> Iterable[tuple[Path, bool]]:
    """List the files that the subjects mean; what a plugin declares without a file is put aside at once."""
    seen: set[Path] = set()
    for subject in subjects:
        path = Path(subject).expanduser()
        record = next((record for record in host.records if record.name == subject), None)
        if path.exists() or record is None:
            paths = [(file, path.is_file()) for file in yaml_files(path)]
        else:
            page = Page(f"plugin {record.name}")
            if record.status != "loaded":
                page.error((), record.error or "it is disabled", "see `zoo plugins`")
            mine = [declared for declared in host.registry.families.values() if declared.plugin == record.name]
            families += [(page, declared) for declared in mine if declared.path is None]
            if page.findings or not all(declared.path for declared in mine):
                pages.append(page)
            paths = [(declared.path, True) for declared in mine if declared.path is not None]
        for file, named in paths:
            if file.resolve() not in seen:
                seen.add(file.resolve())
                yield file, named


def _without(registry: Registry, paths: list[Path]) -> Registry:
    """Leave out what was loaded from the files under review: they are judged as they are now."""
    here = {path.resolve() for path in paths}
    kept = {name: one for name, one in registry.families.items() if one.path is None or one.path.resolve() not in here}
    return replace(registry, families=Families(kept), datasets=dict(registry.datasets))


def _judge(
    registry: Registry, families: list[tuple[Page, DeclaredFamily]], datasets: list[tuple[Page, DatasetsFile]]
) -> None:
    questions: list[Question] = []
    for page, file in datasets:
        for index, dataset in enumerate(file.datasets):
            check_dataset(page, ("datasets", index), dataset, registry)
            registry.datasets.setdefault(dataset.name, dataset)
            questions += dataset_questions(page, ("datasets", index), dataset)
    mine = {id(declared) for _, declared in families}
    others = Others(declared for declared in registry.families.values() if id(declared) not in mine)
    known = Families(registry.families)
    reviewed = [(page, replace(bare, known=known)) for page, bare in families]
    known.update((declared.family.name, declared) for _, declared in reviewed)
    judging = replace(registry, families=known)
    targets = builds(judging)
    for page, declared in reviewed:
        others.check_names(page, declared)
        others.check_weights(page, declared)
        known[declared.family.name] = declared  # of several by one name, the one under review is meant
        check_family(page, declared, judging, targets)
        others.add(declared)
        questions += family_questions(page, declared)
    ask_hub(questions, offline=is_offline())
