"""What a diagnosis finds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from zoo.declarations.base import Value

Status = Literal["ok", "note", "warning", "missing"]


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    check: str
    """What kind of thing: python, package, tested version, kernel, cpu, memory, disk, weights, hub, plugin, tool."""
    subject: str
    status: Status
    """``note``: good to know; ``warning``: it works, but worse; ``missing``: something asked for cannot work."""
    found: str
    """What is there, and what should be."""
    mend: str | None = None
    """The command, or the step, that mends it."""


class Diagnosis(Value):
    """Everything that was looked at."""

    findings: tuple[Finding, ...]

    @property
    def ok(self) -> bool:
        """Nothing that is needed is missing."""
        return all(finding.status != "missing" for finding in self.findings)
