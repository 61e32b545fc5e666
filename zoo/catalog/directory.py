"""The directory of plugins: those that are known, from a file that comes with zoo and changes by a pull request."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Annotated

from pydantic import Field

from zoo.declarations.base import HttpUrl, Name, Value
from zoo.yamlfile import Document

FILE = Path(__file__).with_name("directory.yaml")


class Conformance(Value):
    """What the conformance kit counted over a plugin's families."""

    passed: Annotated[int, Field(ge=1)]
    failed: Annotated[int, Field(ge=0)]
    skipped: Annotated[int, Field(ge=0)]
    on: Annotated[str, Field(pattern=r"^\d{4}-\d\d-\d\d$")]
    """The day of the run."""

    def __str__(self) -> str:
        said = "passes" if not self.failed else f"{self.failed} failed"
        return f"{said}: {self.passed} passed, {self.skipped} skipped on {self.on}"


class ListedPlugin(Value):
    """A plugin that people publish."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_.-]*$", max_length=96)]
    """What ``zoo install`` takes, and its entry point."""
    distribution: Annotated[str, Field(pattern=r"^[A-Za-z0-9][\w.-]*$", max_length=100)]
    """Its name on PyPI."""
    summary: Annotated[str, Field(max_length=300)]
    families: tuple[Name, ...] = ()
    brings: tuple[str, ...] = ()
    """What else it brings: sources, targets, quantizers, commands."""
    licence: Annotated[str, Field(max_length=100)]
    """Of its code."""
    api: Annotated[int, Field(ge=1)] = 1
    """The plugin API that it states."""
    url: HttpUrl | None = None
    tested: Annotated[str, Field(max_length=200)]
    """With which versions of zoo and of what it stands on."""
    conformance: Conformance | None = None
    """What ``zoo ci --tier tiny --plugin NAME`` counted; nothing where it declares no family."""


class Directory(Value):
    """``directory.yaml``."""

    plugins: tuple[ListedPlugin, ...] = Field(default=(), max_length=10_000)


@cache
def directory() -> tuple[ListedPlugin, ...]:
    """List the known plugins, by name."""
    return tuple(sorted(Document(FILE).validate(Directory).plugins, key=lambda plugin: plugin.name))


def find_listed(name: str) -> ListedPlugin | None:
    """Find a plugin by its name."""
    return next((plugin for plugin in directory() if plugin.name == name), None)


def search_listed(word: str) -> list[ListedPlugin]:
    """List the plugins that say a word anywhere."""
    return [plugin for plugin in directory() if word.lower() in plugin.model_dump_json().lower()]
