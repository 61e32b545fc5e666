"""The plugin host: find entry points, call their hooks one plugin at a time, keep all of a plugin or nothing of it."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pluggy
from pydantic import Field

from zoo import builtin, hookspecs
from zoo.declarations.base import Value
from zoo.declarations.dataset import Dataset, DatasetsFile
from zoo.declarations.family import Family
from zoo.errors import ZooError, unknown
from zoo.registry import DeclaredFamily, Registry, UnknownBase
from zoo.yamlfile import Document

if TYPE_CHECKING:
    import typer

GROUP = "zoo"
DISTRIBUTION = "zoo-framework"
CORE_COMMANDS = frozenset(
    [
        *("list", "show", "plugins", "fetch", "build", "verify", "run", "bench", "eval", "report"),
        *("serve", "doctor", "new", "validate", "catalog", "rm"),
    ]
)
"""Commands that no plugin may take; a test compares them with the command line."""

HOOKS = tuple(name for name in vars(hookspecs) if name.startswith("register_"))
_PART = re.compile(r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*$")
_NAME = re.compile(r"^[a-z0-9][a-z0-9._-]*$")


class PluginError(ZooError):
    """A plugin that failed, under ``ZOO_STRICT_PLUGINS=1``."""


class PluginRecord(Value):
    """What became of one plugin."""

    name: str
    distribution: str | None
    version: str | None
    hooks: tuple[str, ...] = ()
    registered: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    """What it brought, by kind: families, models, datasets, architectures, quantizers, targets, tasks, commands."""
    status: Literal["loaded", "failed", "disabled"]
    error: str | None = None


@dataclass
class Collected:
    """What one plugin registered, before it is known to be good."""

    plugin: str
    families: list[DeclaredFamily] = field(default_factory=list)
    datasets: list[Dataset] = field(default_factory=list)
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
            if any("/" in (one.base or "") for one in declared.family.lineage(model.model)):
                continue  # its numbers come from another family, which may not be loaded yet; commit looks
            try:
                _ = model.architecture
            except ZooError as error:
                if document is None:
                    raise
                raise ZooError(str(document.problem(("models", index), str(error)))) from None
        if any(declared.family.name == one.family.name for one in self.families):
            raise ZooError(f"registers the family {declared.family.name!r} twice")
        self.families.append(declared)

    def add_dataset(self, dataset: str | Path | Dataset, /) -> None:
        """Take a dataset, or a YAML of datasets."""
        if isinstance(dataset, Dataset):
            self.datasets.append(dataset)
        else:
            self.datasets += Document(_path(dataset, "register_datasets")).validate(DatasetsFile).datasets

    def part_adder(self, kind: str, table: dict[str, str]) -> Callable[[str, str], None]:
        """Make the ``register`` of architectures, quantizers or targets."""

        def register(name: str, target: str, /) -> None:
            _check_name(kind, name)
            if not isinstance(target, str) or not _PART.match(target):
                raise ZooError(f"{kind} {name!r}: {target!r} is not of the form 'package.module:Class'")
            if name in table:
                raise ZooError(f"registers the {kind} {name!r} twice")
            table[name] = target

        return register

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
            "families": [one.family.name for one in self.families],
            "models": [model.name for one in self.families for model in one.models],
            "datasets": [one.name for one in self.datasets],
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
        for one in self.families:
            if one.family.name in registry.families:
                other = registry.families[one.family.name].plugin
                raise ZooError(f"the family {one.family.name!r} is already declared by plugin {other!r}")
            for model_type in one.family.claims:
                claimant = registry.claimant(model_type) or next(
                    (two for two in self.families if two is not one and model_type in two.family.claims), None
                )
                if claimant is not None:
                    raise ZooError(
                        f"family {one.family.name!r} claims model_type {model_type!r}, "
                        f"which family {claimant.family.name!r} already claims"
                    )
        known = {**registry.families, **{one.family.name: one for one in self.families}}
        for one in self.families:
            for model in replace(one, known=known).models if one.foreign_bases() else ():
                _ = model.architecture
        datasets = dict(registry.datasets)
        for dataset in self.datasets:
            if datasets.setdefault(dataset.name, dataset) != dataset:
                raise ZooError(f"the dataset {dataset.name!r} is already declared, differently")
        tables: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
            ("architecture", self.architectures, registry.architectures),
            ("quantizer", self.quantizers, registry.quantizers),
            ("target", self.targets, registry.targets),
            ("task", self.tasks, registry.tasks),
            ("command", self.commands, registry.commands),
        ]
        for kind, mine, theirs in tables:
            for name in mine:
                if name in theirs or (kind == "command" and name in CORE_COMMANDS):
                    raise ZooError(f"the {kind} {name!r} is already taken")
        registry.families |= {one.family.name: replace(one, known=registry.families) for one in self.families}
        registry.datasets = datasets
        for _, mine, theirs in tables:
            theirs |= mine


@dataclass(frozen=True)
class Host:
    """The loaded plugins: what they brought, and what became of each."""

    registry: Registry
    records: tuple[PluginRecord, ...]


def _path(value: Any, hook: str) -> Path:
    if not isinstance(value, str | Path):
        raise ZooError(f"{hook}: expected a path or a declaration, got {type(value).__name__}")
    return Path(value)


def _check_name(kind: str, name: Any) -> None:
    if not isinstance(name, str) or not _NAME.match(name):
        raise ZooError(f"{name!r} is no name for a {kind}: use lower case letters, digits, dots and dashes")


def _command_names(app: typer.Typer) -> list[str]:
    """Name the commands of a plugin's app, and prove that the command line can be made of them."""
    from typer.main import get_command

    if app.registered_callback is not None:
        raise ZooError("register_commands: a plugin adds commands, not a callback")
    names = []
    for command in app.registered_commands:
        name = command.name or (command.callback.__name__.lower().replace("_", "-") if command.callback else "")
        names.append(name)
    for group in app.registered_groups:
        group_name = group.name or (group.typer_instance.info.name if group.typer_instance else None)
        if not isinstance(group_name, str):
            raise ZooError("register_commands: a group of commands needs a name")
        names.append(group_name)
    if len(set(names)) < len(names):
        raise ZooError("register_commands: a command is registered twice")
    if names:
        get_command(app)
    return names


def call_hooks(plugin: object, name: str) -> tuple[Collected, tuple[str, ...]]:
    """Call every hook of one plugin and collect what it registers.

    Returns:
        What it registered, and the names of the hooks that it implements.
    """
    manager = pluggy.PluginManager(GROUP)
    manager.add_hookspecs(hookspecs)
    manager.register(plugin, name)
    manager.check_pending()
    callers = manager.get_hookcallers(plugin) or []
    hooks = tuple(hook for hook in HOOKS if any(caller.name == hook for caller in callers))
    if not hooks:
        raise ZooError("implements no hook; mark its functions with @zoo.hookimpl")
    collected = Collected(name)
    registers: dict[str, Any] = {
        "register_families": collected.add_family,
        "register_datasets": collected.add_dataset,
        "register_architectures": collected.part_adder("architecture", collected.architectures),
        "register_quantizers": collected.part_adder("quantizer", collected.quantizers),
        "register_targets": collected.part_adder("target", collected.targets),
        "register_tasks": collected.add_task,
    }
    for hook in hooks:
        if hook == "register_commands":
            import typer

            app = typer.Typer()
            manager.hook.register_commands(app=app)
            collected.commands = dict.fromkeys(_command_names(app), app)
        else:
            getattr(manager.hook, hook)(register=registers[hook])
    return collected, hooks


def _first_line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return text if isinstance(error, ZooError) else f"{type(error).__name__}: {text}" if text else type(error).__name__


@dataclass
class _Loader:
    """Loads plugins one by one into a registry."""

    registry: Registry = field(default_factory=Registry)
    records: list[PluginRecord] = field(default_factory=list)
    waiting: list[tuple[PluginRecord, Collected]] = field(default_factory=list)
    waited: int = 0
    """How many waited in the round before: a round that loads none is the last."""

    def load(self, name: str, distribution: str | None, version: str | None, find: Callable[[], object]) -> None:
        """Load one plugin whole, or note why it failed and leave nothing of it behind.

        A plugin with a fine-tune of a model that is not there yet waits for the others, so no order is wrong.
        """
        record = PluginRecord(name=name, distribution=distribution, version=version, status="loaded")
        self.records.append(record)
        try:
            if any(one.name == name and one.status != "disabled" for one in self.records if one is not record):
                raise ZooError(f"another plugin is already called {name!r}")
            collected, hooks = call_hooks(find(), name)
            record = self._change(record, hooks=hooks)
            self._settle(record, collected)
        except (Exception, SystemExit) as error:
            self._fail(record, error)

    def load_waiting(self) -> None:
        """Load those that waited for a base; what is still missing one at the end fails."""
        while self.waiting:
            waiting, self.waiting = self.waiting, []
            for record, collected in waiting:
                try:
                    self._settle(record, collected, last=len(waiting) == self.waited)
                except Exception as error:
                    self._fail(record, error)
            self.waited = len(waiting)

    def _settle(self, record: PluginRecord, collected: Collected, *, last: bool = False) -> None:
        try:
            collected.commit(self.registry)
        except UnknownBase:
            if last:
                raise
            self.waiting.append((record, collected))
        else:
            self._change(record, registered=collected.registered())

    def _fail(self, record: PluginRecord, error: BaseException) -> None:
        message = _first_line(error)
        origin = f" ({record.distribution} {record.version})" if record.distribution else ""
        if os.environ.get("ZOO_STRICT_PLUGINS") == "1":
            raise PluginError(f"plugin {record.name!r}{origin} failed: {message}") from error
        print(f"zoo: plugin {record.name!r}{origin} failed: {message}", file=sys.stderr)
        self._change(record, status="failed", error=message)

    def _change(self, record: PluginRecord, **changes: Any) -> PluginRecord:
        index = next(index for index, one in enumerate(self.records) if one is record)
        self.records[index] = record.model_copy(update=changes)
        return self.records[index]

    def disable(self, name: str, distribution: str | None, version: str | None) -> None:
        self.records.append(PluginRecord(name=name, distribution=distribution, version=version, status="disabled"))


def _entry_points() -> list[metadata.EntryPoint]:
    """List the entry points, the bundled first, then by name; the very same one found twice counts once."""
    unique: dict[tuple[str, str], metadata.EntryPoint] = {}
    for point in metadata.entry_points(group=GROUP):
        key = (point.name, point.value)
        if key not in unique or _distribution(point)[0] == DISTRIBUTION:
            unique[key] = point
    return sorted(unique.values(), key=lambda one: (_distribution(one)[0] != DISTRIBUTION, one.name, one.value))


def _distribution(point: metadata.EntryPoint) -> tuple[str | None, str | None]:
    return _identity(point.dist) if point.dist is not None else (None, None)


@cache
def _identity(distribution: metadata.Distribution) -> tuple[str, str]:
    """Read name and version; the library parses the whole metadata anew each time it is asked."""
    found = distribution.metadata
    return found["Name"], found["Version"]


class _LooseFamily:
    """A family YAML in a folder of ``ZOO_PATH``, as a plugin."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @hookspecs.hookimpl
    def register_families(self, register: hookspecs.RegisterFamily) -> None:
        register(self.path)


def _loose_files(value: str) -> Iterable[Path]:
    for folder in filter(None, value.split(os.pathsep)):
        path = Path(folder).expanduser()
        if not path.is_dir():
            print(f"zoo: ZOO_PATH names {folder}, which is no folder", file=sys.stderr)
            continue
        yield from sorted(file for file in path.iterdir() if file.suffix in (".yaml", ".yml"))


def load() -> Host:
    """Load the core, the installed plugins that ``ZOO_PLUGINS`` admits, and the loose files of ``ZOO_PATH``.

    A plugin that fails leaves nothing behind and is named once on stderr.

    Raises:
        PluginError: a plugin failed and ``ZOO_STRICT_PLUGINS`` is 1.
    """
    loader = _Loader()
    loader.load("core", DISTRIBUTION, _version(), lambda: builtin)
    points = _entry_points()
    chosen = os.environ.get("ZOO_PLUGINS")
    wanted = None if chosen is None else {name.strip() for name in chosen.split(",") if name.strip()}
    for point in points:
        distribution, version = _distribution(point)
        if wanted is not None and point.name not in wanted:
            loader.disable(point.name, distribution, version)
        else:
            loader.load(point.name, distribution, version, point.load)
    for name in sorted((wanted or set()) - {point.name for point in points}):
        print(f"zoo: ZOO_PLUGINS: {unknown('plugin', name, [one.name for one in points])}", file=sys.stderr)
    for path in _loose_files(os.environ.get("ZOO_PATH", "")):
        loader.load(path.stem, None, None, lambda path=path: _LooseFamily(path))  # type: ignore[misc]
    loader.load_waiting()
    return Host(loader.registry, tuple(loader.records))


def _version() -> str:
    from zoo import __version__

    return __version__


@cache
def host() -> Host:
    """Get the plugins of this process, loaded on first use."""
    return load()
