"""What a target may offer beyond ``Target``: documents for another tool chain, the tools it calls, probes for `doctor`.

A target whose ``needs_weights`` is false is a ``DocumentTarget``: instead of placing weights and emitting a graph it
writes the input files of other programs, and says which commands take them from there. One that is ``Serving`` too says
how its tool serves the model: it is an engine of ``zoo serve --engine``.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Protocol, runtime_checkable

from zoo.declarations.dataset import Dataset, DatasetUses
from zoo.declarations.recipe import Precision, Recipe
from zoo.operations.program import Program


@dataclass(frozen=True, slots=True)
class TargetContext:
    """What documents may say beyond the recipe: names, and places on this machine. None of it enters the recipe."""

    weights_name: str
    """The weights by the last part of their hub id, or by their folder's name."""
    weights: Path | None
    """The folder of the weights, where they are on this machine."""
    hub: str | None
    """The repository to fetch them from, where one is known."""
    revision: str
    parameters: int
    """Exact number of weights, a tied one counted once."""
    chat: bool = False
    """The model is tuned to converse."""
    uses: DatasetUses = field(default_factory=DatasetUses)
    """Which datasets the family uses for what."""
    datasets: Mapping[str, Dataset] = field(default_factory=dict)
    """Those of them that are declared, by name."""
    dataset_folders: Mapping[str, Path] = field(default_factory=dict)
    """The folders of those that are on this machine."""
    documents: str = "."
    """The folder of the documents, seen from the one that the commands run in, which is another."""

    def document(self, name: str) -> str:
        """Name a document as a command names it."""
        return name if self.documents == "." else f"{self.documents}/{name}"


@dataclass(frozen=True, slots=True)
class ToolCommand:
    """A command that takes the documents further, run in ``FOLDER.work`` beside their folder: what it leaves stays."""

    argv: tuple[str, ...]
    purpose: str
    """What it does, in a few words."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """What it needs in the environment."""
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    """What it needs in the environment too, and no screen, log or list of processes may show."""
    run: bool = False
    """The build runs it where the program is on the PATH; otherwise it is shown."""

    @property
    def line(self) -> str:
        """The command as one would type it in a shell, where a variable that is set already holds each secret."""
        variables = [f"{name}={shlex.quote(value)}" for name, value in self.environment.items()]
        variables += [f'{name}="${{{name}:?}}"' for name in self.secrets]
        return " ".join([*variables, shlex.join(self.argv)])


@dataclass(frozen=True, slots=True)
class Tool:
    """A program that a target's commands call."""

    name: str
    purpose: str
    install: str
    """How to get it, in one line."""
    minimum: tuple[int, ...] | None = None
    """The oldest version that reads the documents."""
    version_argv: tuple[str, ...] = ("--version",)
    """Arguments that make it print its version."""


@dataclass(frozen=True, slots=True)
class Probe:
    """A small trial of something that a build or its package needs; ``run`` raises where it does not work."""

    name: str
    run: Callable[[], None]


@dataclass(frozen=True, slots=True)
class Listening:
    """Where a server listens, and what it goes by."""

    host: str
    port: int
    model_name: str
    """What requests call the model."""
    api_key: str | None = field(default=None, repr=False)
    """What every request must carry; it belongs into ``ToolCommand.secrets``, never into arguments."""


@runtime_checkable
class DocumentTarget(Protocol):
    """What a target offers that writes documents for other tools, beside what ``Target`` states for every target."""

    tools: ClassVar[Sequence[Tool]]

    def check(self, recipe: Recipe) -> None:
        """Refuse a recipe that breaks a rule of the tools; raises ``ZooError`` with rule and reason."""
        ...

    def documents(self, recipe: Recipe, context: TargetContext) -> Iterable[tuple[str, bytes]]:
        """Make the files, by their names in the folder."""
        ...

    def commands(self, recipe: Recipe, context: TargetContext) -> Sequence[ToolCommand]:
        """List the commands that take the files further, in order."""
        ...


@runtime_checkable
class Serving(Protocol):
    """What a document target offers whose tool serves the original weights: ``zoo serve --engine NAME`` runs it."""

    def serve_command(self, recipe: Recipe, context: TargetContext, listening: Listening) -> ToolCommand:
        """Say how to serve the model, in the folder of the documents; the process lives as long as it serves."""
        ...


@runtime_checkable
class Probing(Protocol):
    """What a target offers whose kernels can be tried on this machine, for ``zoo doctor``."""

    def probes(self, program: Program | None, precisions: Sequence[Precision]) -> Iterable[Probe]:
        """List a trial of each operator and bit width that builds of these precisions use.

        Args:
            program: what the model computes; None asks for what models use in general.
            precisions: those to be built.
        """
        ...
