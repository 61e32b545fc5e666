"""A report: what was measured, of which recipe, on what kind of machine, with which versions."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import JsonValue

from zoo.declarations.base import Name, Sha256, Value

ReportKind = Literal["verify", "eval", "bench", "sensitivity"]
"""``sensitivity`` is of weights that are yet to be built: what each would lose, by which ``--mixed auto`` chooses."""


class MachineKind(Value):
    """What kind of machine measured it; nothing that tells which one."""

    cpu: str
    """The processor's model name."""
    cores: int
    """Logical cores that the process may use."""
    memory_bytes: int
    system: str
    """Operating system and instruction set, for example ``Linux x86_64``."""


class Report(Value):
    """A measurement, kept under its recipe's hash and never changed."""

    format_version: Literal[1] = 1
    kind: ReportKind
    recipe_hash: Sha256
    contents: Sha256 | None = None
    """Names the files of the package that was measured, by what was read of them; absent where none was."""
    model: str
    family: Name | None = None
    precision: str
    measured_at: datetime
    """When it was measured, UTC."""
    settings: dict[str, JsonValue]
    """What was asked for: everything that two reports must share to be compared."""
    measured: dict[str, JsonValue]
    """The figures, by the kind's own names."""
    passed: bool | None = None
    """Whether the figures are within their tolerances; absent where there are none."""
    own_weights: bool | None = None
    """Of a verification: whether the weights are those that the model declares, by their repository, their plugin or
    their SHA-256; absent where nobody can tell."""
    machine: MachineKind
    versions: dict[str, str]
    """Versions of the libraries that took part."""
    zoo_version: str
