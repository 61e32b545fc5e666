"""What MODEL on the command line means: a package, a checkpoint folder, a declared model or a hub id, in this order."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from zoo.errors import UsageError, ZooError, unknown
from zoo.package.store import StoredPackage, read_labels, stored_packages
from zoo.registry import DeclaredFamily, DeclaredModel, Registry

_HUB_ID = re.compile(r"^[A-Za-z0-9][\w.-]*/[\w.-]+$")


@dataclass(frozen=True)
class Subject:
    """What a user's MODEL turned out to be."""

    label: str
    """Its name in messages and packages; of a folder just its own name."""
    package: Path | None = None
    folder: Path | None = None
    declared: DeclaredModel | None = None
    hub: str | None = None

    @property
    def family(self) -> DeclaredFamily | None:
        return self.declared.declared_in if self.declared else None


def lies_in_folder(subject: Subject, weights: str | None) -> bool:
    """Tell whether a subject's weights are a folder that somebody names or a plugin ships, and no hub repository."""
    if weights is not None:
        return not is_hub_id(weights)
    shipped = subject.declared.weights_folder if subject.declared is not None else None
    return subject.folder is not None or shipped is not None


def is_hub_id(text: str) -> bool:
    """Tell whether a text has the form of a hub id and no folder of that name exists."""
    return bool(_HUB_ID.match(text)) and ".." not in text and not Path(text).exists()


def identify(registry: Registry, text: str) -> Subject:
    """Find out what MODEL means.

    Raises:
        UsageError: an unknown or ambiguous name.
        ZooError: a folder that is neither a package nor a checkpoint.
    """
    if not text.strip():
        raise UsageError("an empty text names no model, checkpoint folder, package or hub id")
    path = Path(text).expanduser()
    if (path / "zoo.json").is_file():
        return Subject(path.resolve().name, package=path)
    if (path / "config.json").is_file():
        return Subject(path.resolve().name or "model", folder=path)
    declared = registry.find(text)
    if declared is not None:
        return Subject(declared.name, declared=declared)
    if path.is_dir():
        raise ZooError(f"{text} is neither a checkpoint nor a package: it holds no config.json and no zoo.json")
    if path.is_file():
        raise ZooError(f"{text} is a file; name the folder that holds the checkpoint or the package")
    if text.startswith((".", "/", "~")) or text.count("/") > 1:
        raise ZooError(f"there is no folder {text}")
    families = registry.families
    if is_hub_id(text) and text.split("/")[0] not in families:
        return Subject(text.split("/")[-1], hub=text)
    registry.model(text)  # offers the nearest names
    raise AssertionError(text)


def checkpoint_folder(subject: Subject, weights: str | None, revision: str | None, *, required: bool) -> Path | None:
    """Find the folder of a subject's weights: what ``--weights`` names, its own, what a plugin ships, the hub's cache.

    Args:
        required: fetch what is missing; otherwise None stands for weights that are not on this machine.
    """
    if subject.package is not None and weights is None:
        raise UsageError(f"{subject.label} is a package already; name a model or a checkpoint to build")
    if weights is not None:
        path = Path(weights).expanduser()
        if path.is_dir():
            return path
        if is_hub_id(weights):
            return _from_hub(weights, revision, subject, required=required)
        raise ZooError(f"--weights {weights}: there is no such folder, and it is no hub id")
    if subject.folder is not None:
        return subject.folder
    if subject.declared is not None:
        shipped = subject.declared.weights_folder
        if shipped is not None:
            return shipped
        source = subject.declared.model.weights
        return _from_hub(str(source.hub), revision or source.revision, subject, required=required)
    return _from_hub(str(subject.hub), revision, subject, required=required)


def _from_hub(repository: str, revision: str | None, subject: Subject, *, required: bool) -> Path | None:
    from zoo.sources import hub

    found = hub.locate(repository, revision or "main")
    if found is not None or not required:
        return found
    licence = subject.declared.licence if subject.declared else None
    return hub.download(repository, revision or "main", licence=licence)


def find_packages(model: DeclaredModel | None, label: str) -> list[StoredPackage]:
    """List the store's packages of a model."""
    family = model.family.name if model else None
    return [one for one in stored_packages() if one.model == label and (family is None or one.family == family)]


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
        labels = read_labels(subject.package / "zoo.json")
        if to_run and labels is not None:
            require_runnable(registry, labels)
        if precision is not None and labels is not None and labels.precision != precision:
            raise UsageError(f"{subject.label} was built as {labels.precision}, not {precision}; leave -p out")
        return subject.package
    packages = find_packages(subject.declared, subject.label)
    if precision is not None:
        from zoo.declarations.recipe import PRECISIONS

        if precision not in PRECISIONS:
            raise unknown("precision", precision, PRECISIONS)
        packages = [one for one in packages if one.precision == precision]
    if not packages:
        option = f" --precision {precision}" if precision else ""
        raise ZooError(f"no package of {text} is built; build one: zoo build {text}{option}")
    if to_run:
        runnable = [one for one in packages if is_runnable(registry, one.target)]
        if not runnable:
            require_runnable(registry, packages[0])
        packages = runnable
    if len(packages) > 1:
        names = ", ".join(f"{one.precision} ({one.path.name})" for one in packages)
        advice = "name the folder" if len({one.precision for one in packages}) == 1 else "choose with -p"
        raise UsageError(f"several packages of {text} are built: {names}; {advice}")
    return packages[0].path


def is_runnable(registry: Registry, target: str) -> bool:
    """Tell whether the engine opens what a target builds."""
    return target in registry.targets and registry.target(target).runnable


def require_runnable(registry: Registry, package: StoredPackage) -> None:
    """Refuse a package that the engine does not open.

    Raises:
        ZooError: its target writes for other tools, or no loaded plugin brings it.
    """
    name, target = package.path.name, package.target
    if target not in registry.targets:
        raise ZooError(f"{name} was built for target {target!r}, which no loaded plugin brings; see `zoo plugins`")
    if not registry.target(target).runnable:
        raise ZooError(
            f"{name} was built for target {target!r}, whose files other tools run, not zoo; "
            f"build one that runs here: zoo build {package.model} -p {package.precision}"
        )
