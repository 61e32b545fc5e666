"""The hooks that a plugin may implement, each a plain function marked ``@zoo.hookimpl``.

A plugin is an entry point of the group ``zoo``: a module or an object. It implements the hooks it needs.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pluggy

if TYPE_CHECKING:
    import typer

    from zoo.declarations.dataset import Dataset
    from zoo.declarations.family import Family

API_VERSION = 1
"""The plugin API of this zoo; docs/reference/plugin-api.md says when it rises. A plugin states ``ZOO_API = 1``."""
OLDEST_API_VERSION = 1
"""The oldest plugin API that still loads."""

hookspec = pluggy.HookspecMarker("zoo")
hookimpl = pluggy.HookimplMarker("zoo")


class RegisterFamily(Protocol):
    def __call__(self, family: str | Path | Family, /) -> None: ...


class RegisterDataset(Protocol):
    def __call__(self, dataset: str | Path | Dataset, /) -> None: ...


class RegisterPart(Protocol):
    def __call__(self, name: str, target: str, /) -> None: ...


class RegisterSource(Protocol):
    def __call__(self, name: str, target: str, /) -> None: ...

    def transform(self, name: str, target: str, /) -> None: ...


class RegisterTask(Protocol):
    def __call__(self, name: str, task: str | Path | Mapping[str, Any], /) -> None: ...


@hookspec
def register_families(register: RegisterFamily) -> None:
    """Declare model families: ``register(path to a family YAML, or a zoo.Family)``."""


@hookspec
def register_datasets(register: RegisterDataset) -> None:
    """Declare datasets: ``register(path to a datasets YAML, or a zoo.Dataset)``."""


@hookspec
def register_sources(register: RegisterSource) -> None:
    """Add where weights come from: ``register("gguf", "package.module:Class")``, a ``zoo.Source``; and what may be done
    to them before a build reads them: ``register.transform("gptq", "package.module:Class")``, a ``zoo.Transform``."""


@hookspec
def register_architectures(register: RegisterPart) -> None:
    """Add an architecture: ``register("decoder", "package.module:Class")``, a ``zoo.ArchitecturePart``."""


@hookspec
def register_quantizers(register: RegisterPart) -> None:
    """Add a quantizer: ``register("rtn", "package.module:Class")``, a ``zoo.Quantizer``."""


@hookspec
def register_targets(register: RegisterPart) -> None:
    """Add a target: ``register("ort", "package.module:Class")``, a ``zoo.Target``."""


@hookspec
def register_tasks(register: RegisterTask) -> None:
    """Add an evaluation task: ``register(name, path to an lm-eval YAML, or a mapping)``, without importing lm-eval."""


@hookspec
def register_commands(app: typer.Typer) -> None:
    """Add commands to the command line: ``@app.command()`` on the given Typer app."""
