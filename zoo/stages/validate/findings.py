"""What a validation finds: where, how bad, and how to mend it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from zoo.declarations.base import Value
from zoo.yamlfile import Document, Location

Severity = Literal["error", "warning", "note"]


class Finding(Value):
    """One thing to know about a declaration."""

    severity: Severity
    file: str
    line: int
    column: int
    field: str
    message: str
    mend: str | None = None
    """What to do about it."""

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}:{self.column}: {self.severity}: "
        named = f"{self.field}: " if self.field else ""
        return f"{where}{named}{self.message}{f'; {self.mend}' if self.mend else ''}"


class Validation(Value):
    """All that was found, in the order of files and lines."""

    files: tuple[str, ...]
    findings: tuple[Finding, ...]

    def count(self, severity: Severity) -> int:
        """Count the findings of one severity."""
        return sum(finding.severity == severity for finding in self.findings)

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong; warnings and notes are not."""
        return self.count("error") == 0


@dataclass
class Page:
    """A declaration under review: its document, where it has one, and what was found in it."""

    name: str
    document: Document | None = None
    findings: list[Finding] = field(default_factory=list)
    _told: set[Finding] = field(default_factory=set, repr=False)

    def add(self, severity: Severity, at: Location, message: str, mend: str | None = None) -> None:
        """Note something about the value at a place; the same thing said twice of a place counts once."""
        line, column, shown = 1, 1, ".".join(map(str, at))
        if self.document is not None:
            problem = self.document.problem(at, message)
            line, column, shown = problem.line, problem.column, problem.field
        finding = Finding(
            severity=severity, file=self.name, line=line, column=column, field=shown, message=message, mend=mend
        )
        if finding not in self._told:
            self._told.add(finding)
            self.findings.append(finding)

    def error(self, at: Location, message: str, mend: str | None = None) -> None:
        self.add("error", at, message, mend)

    def warn(self, at: Location, message: str, mend: str | None = None) -> None:
        self.add("warning", at, message, mend)

    def note(self, at: Location, message: str, mend: str | None = None) -> None:
        self.add("note", at, message, mend)
