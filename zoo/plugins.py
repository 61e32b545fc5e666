"""The plugin host: find entry points, load one plugin at a time, keep all of a plugin or nothing of it."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cache, partial
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from zoo import builtin
from zoo.declarations.base import Value
from zoo.errors import ZooError, unknown
from zoo.hookcalls import GROUP as GROUP
from zoo.hookcalls import HOOKS as HOOKS
from zoo.hookcalls import Called, call_hooks, load_plugin
from zoo.registration import CORE_COMMANDS as CORE_COMMANDS
from zoo.registration import Collected
from zoo.registry import Registry, UnknownBase
from zoo.terminal import one_line

DISTRIBUTION = "model-zoo-framework"


class PluginError(ZooError):
    """A plugin that failed, under ``ZOO_STRICT_PLUGINS=1``."""


class PluginRecord(Value):
    """What became of one plugin."""

    name: str
    distribution: str | None
    version: str | None
    api: int | None = None
    """The plugin API that it states, ``ZOO_API``."""
    hooks: tuple[str, ...] = ()
    registered: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    """What it brought, by kind: families, models, datasets, sources, transforms, architectures, quantizers, targets,
    tasks, commands."""
    status: Literal["loaded", "failed", "disabled"]
    error: str | None = None


@dataclass(frozen=True)
class Host:
    """The loaded plugins: what they brought, and what became of each."""

    registry: Registry
    records: tuple[PluginRecord, ...]


def _say(line: str) -> None:
    print(f"zoo: {one_line(line)}", file=sys.stderr)


def _origin(record: PluginRecord) -> str:
    return f" ({record.distribution} {record.version})" if record.distribution else ""


def _first_line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return text if isinstance(error, ZooError) else f"{type(error).__name__}: {text}" if text else type(error).__name__


@dataclass
class _Loader:
    """Loads plugins one by one into a registry."""

    registry: Registry = field(default_factory=Registry)
    records: list[PluginRecord] = field(default_factory=list)
    taken: set[str] = field(default_factory=set)
    """Names of the plugins so far, the disabled not among them."""
    waiting: list[tuple[PluginRecord, Collected]] = field(default_factory=list)
    waited: int = 0
    """How many waited in the round before: a round that loads none is the last."""

    def load(
        self,
        name: str,
        distribution: str | None,
        version: str | None,
        call: Callable[[], Called],
    ) -> None:
        """Load one plugin whole, or note why it failed and leave nothing of it behind.

        A plugin with a fine-tune of a model that is not there yet waits for the others, so no order is wrong.
        What it prints goes to stderr: stdout belongs to the results of the command.

        Args:
            call: imports it and calls its hooks.
        """
        record = PluginRecord(name=name, distribution=distribution, version=version, status="loaded")
        self.records.append(record)
        try:
            if name in self.taken:
                raise ZooError(f"another plugin is already called {name!r}")
            self.taken.add(name)
            with contextlib.redirect_stdout(sys.stderr):
                called = call()
            record = self._change(record, hooks=called.hooks, api=called.api)
            for message in called.deprecated:
                _say(f"plugin {name!r}{_origin(record)}: deprecated: {message}")
            self._settle(record, called.collected)
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
        origin = _origin(record)
        if os.environ.get("ZOO_STRICT_PLUGINS") == "1":
            raise PluginError(f"plugin {record.name!r}{origin} failed: {message}") from error
        _say(f"plugin {record.name!r}{origin} failed: {message}")
        self._change(record, status="failed", error=message)

    def _change(self, record: PluginRecord, **changes: Any) -> PluginRecord:
        index = next(index for index in range(len(self.records) - 1, -1, -1) if self.records[index] is record)
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


def _loose_family(path: Path) -> Called:
    """Read a family YAML in a folder of ``ZOO_PATH``, as if a plugin registered it."""
    collected = Collected(path.stem)
    collected.add_family(path)
    return Called(collected, ("register_families",))


def _loose_files(value: str) -> Iterable[Path]:
    for folder in filter(None, value.split(os.pathsep)):
        path = Path(folder).expanduser()
        if not path.is_dir():
            _say(f"ZOO_PATH names {folder}, which is not a folder")
            continue
        yield from sorted(file for file in path.iterdir() if file.suffix in (".yaml", ".yml") and file.is_file())


def load() -> Host:
    """Load the core, the installed plugins that ``ZOO_PLUGINS`` admits, and the loose files of ``ZOO_PATH``.

    ``ZOO_PLUGINS=a,b`` admits just those, ``-a,-b`` all but those, an empty value none.

    A plugin that fails leaves nothing behind and is named once on stderr.

    Raises:
        PluginError: a plugin failed and ``ZOO_STRICT_PLUGINS`` is 1.
    """
    loader = _Loader()
    loader.load("core", DISTRIBUTION, _version(), lambda: call_hooks(builtin, "core"))
    points = _entry_points()
    chosen = os.environ.get("ZOO_PLUGINS")
    names = [name.strip() for name in (chosen or "").split(",") if name.strip()]
    unwanted = {name[1:] for name in names if name.startswith("-")}
    wanted = {name for name in names if not name.startswith("-")}
    everything = chosen is None or (bool(unwanted) and not wanted)
    for point in points:
        distribution, version = _distribution(point)
        if point.name in unwanted or not (everything or point.name in wanted):
            loader.disable(point.name, distribution, version)
        else:
            loader.load(point.name, distribution, version, partial(load_plugin, point.load, point.name, point.module))
    for name in sorted((wanted | unwanted) - {point.name for point in points}):
        _say(f"ZOO_PLUGINS: {unknown('plugin', name, [point.name for point in points])}")
    for path in _loose_files(os.environ.get("ZOO_PATH", "")):
        loader.load(path.stem, None, None, partial(_loose_family, path))
    loader.load_waiting()
    return Host(loader.registry, tuple(loader.records))


def _version() -> str:
    from zoo import __version__

    return __version__


@cache
def host() -> Host:
    """Get the plugins of this process, loaded on first use."""
    return load()
