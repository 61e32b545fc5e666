"""What MODEL on the command line means: a package, a checkpoint folder, a declared model or a hub id, in this order."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from zoo.errors import UsageError, ZooError, unknown
from zoo.package.store import StoredPackage, read_labels, stored_packages
from zoo.registry import DeclaredFamily, DeclaredModel, Registry
from zoo.sources.content import settled_digest
from zoo.sources.otherkinds import explain
from zoo.stages.aliases import aliases
from zoo.stages.locations import HUB, find_source, is_checkpoint
from zoo.stages.weights import locate_weights
from zoo.terminal import command_line


@dataclass(frozen=True)
class Subject:
    """What a user's MODEL turned out to be."""

    label: str
    """Its name in messages and packages; of a folder just its own name."""
    package: Path | None = None
    location: str | None = None
    """What a source opens, where MODEL is not a declared name: a folder, a file, a hub id."""
    declared: DeclaredModel | None = None

    @property
    def family(self) -> DeclaredFamily | None:
        return self.declared.declared_in if self.declared else None


def identify(registry: Registry, text: str, *, aliased: bool = False) -> Subject:
    """Find out what MODEL means.

    Args:
        aliased: it is what an alias stands for, which is no other alias.

    Raises:
        UsageError: an unknown or ambiguous name.
        ZooError: a folder that is neither a package nor a checkpoint.
    """
    if not text.strip():
        raise UsageError("the name is empty; give a model, a checkpoint folder, a package or a hub id")
    path = Path(text).expanduser()
    if (path / "zoo.json").is_file():
        return Subject(path.resolve().name, package=path)
    if path.exists() and is_checkpoint(registry, path):
        real = path.resolve()
        return Subject((real.stem if path.is_file() else real.name) or "model", location=str(path))
    declared = registry.find(text)
    if declared is not None:
        return Subject(declared.name, declared=declared)
    if not aliased and (model := aliases().get(text)) is not None:
        return identify(registry, model, aliased=True)
    if path.exists():
        raise ZooError(f"{text} {explain(path)}")
    if text.startswith((".", "/", "~")):
        raise ZooError(f"there is no folder {text}")
    if ":" not in text and path.suffix.lower() in (".gguf", ".safetensors", ".bin"):
        raise ZooError(f"there is no file {text}")
    source = find_source(registry, text)
    if source is not None and not (source == HUB and text.split("/")[0] in registry.families):
        label = re.sub(r"[^\w.-]+", "-", text.rstrip("/").split("/")[-1]).strip("-")
        return Subject(label or "model", location=text)
    if text.count("/") > 1:
        raise ZooError(f"there is no folder {text}")
    registry.model(text)  # offers the nearest names
    raise AssertionError(text)


def find_packages(model: DeclaredModel | None, label: str) -> list[StoredPackage]:
    """List the store's packages of a model."""
    family = model.family.name if model else None
    return [
        package
        for package in stored_packages()
        if package.model == label and (family is None or package.family == family)
    ]


def find_package(registry: Registry, text: str, precision: str | None = None) -> Path:
    """Find the package that MODEL means, to open it.

    This is the one door through which packages are opened to be run, measured, evaluated, verified or served.

    Raises:
        ZooError: none is built (the message gives the command), several are and no precision says which, or it was
            built for a target whose packages other tools run.
    """
    return _choose(registry, text, precision, to_run=True)


def locate_package(registry: Registry, text: str, precision: str | None = None) -> Path:
    """Find the package that MODEL means, whoever it was built for: to look at it or to remove it."""
    return _choose(registry, text, precision, to_run=False)


def _choose(registry: Registry, text: str, precision: str | None, *, to_run: bool) -> Path:
    subject = identify(registry, text)
    if subject.package is not None:
        labels = read_labels(subject.package)
        if to_run and labels is not None:
            require_runnable(registry, labels)
        if precision is not None and labels is not None and labels.precision != precision:
            raise UsageError(f"{subject.label} was built as {labels.precision}, not {precision}; leave -p out")
        return subject.package
    built, packages = find_packages(subject.declared, subject.label), packages_of(registry, subject)
    if precision is not None:
        from zoo.declarations.recipe import PRECISIONS

        if precision not in PRECISIONS:
            raise unknown("precision", precision, PRECISIONS)
        packages = [package for package in packages if package.precision == precision]
    if not packages:
        option = ("--precision", precision) if precision else ()
        others = f" ({built[0].path.name} was built from other weights)" if built and not precision else ""
        build = command_line("zoo", "build", text, *option)
        raise ZooError(f"no package of {text} is built{others}; build one: {build}")
    if to_run:
        runnable = [package for package in packages if is_runnable(registry, package.target)]
        if not runnable:
            require_runnable(registry, packages[0])
        packages = runnable
    if len(packages) > 1:
        names = ", ".join(f"{package.precision} ({package.path.name})" for package in packages)
        advice = "name the folder" if len({package.precision for package in packages}) == 1 else "choose with -p"
        raise UsageError(f"several packages of {text} are built: {names}; {advice}")
    return packages[0].path


def packages_of(registry: Registry, subject: Subject) -> list[StoredPackage]:
    """List the store's packages of a subject; of a location only those that were built from its very weights."""
    packages = find_packages(subject.declared, subject.label)
    return _built_from(registry, subject, packages) if subject.location is not None and packages else packages


def _built_from(registry: Registry, subject: Subject, packages: list[StoredPackage]) -> list[StoredPackage]:
    """Keep the packages that were built from the very weights of a location: many folders have one name."""
    location = locate_weights(registry, subject, None, None)
    assert location is not None
    if location.hub is not None:
        return [package for package in packages if package.hub == location.hub]
    digest = settled_digest(location.open(registry, offline=True), read=True)
    return [package for package in packages if package.digest == digest]


def is_runnable(registry: Registry, target: str) -> bool:
    """Tell whether an engine opens what a target builds."""
    return target in registry.targets and bool(registry.target(target).engines)


def require_runnable(registry: Registry, package: StoredPackage) -> None:
    """Refuse a package that no engine opens.

    Raises:
        ZooError: its target writes for other tools, or no loaded plugin brings it.
    """
    name, target = package.path.name, package.target
    if target not in registry.targets:
        raise ZooError(f"{name} was built for target {target!r}, which no loaded plugin brings; see `zoo plugins`")
    if not registry.target(target).engines:
        raise ZooError(
            f"{name} was built for target {target!r}, whose files other tools run, not zoo; "
            f"build one that runs here: {command_line('zoo', 'build', package.model, '-p', package.precision)}"
        )
