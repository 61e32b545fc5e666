"""Hold what a program needs against what a target implements."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from zoo.operations.program import Program
from zoo.operations.record import record

if TYPE_CHECKING:
    from zoo.contracts.architecture import ArchitecturePart
    from zoo.contracts.target import Target
    from zoo.declarations.architecture import Architecture

Needs = Mapping[str, frozenset[str]]
"""Operation → features, of those that a program uses or a target implements."""


def needs(program: Program) -> dict[str, frozenset[str]]:
    """Collect the operations of a program, each with every feature that it is used with."""
    needed: dict[str, frozenset[str]] = {}
    for step in program.steps:
        operation = step.operation
        needed[operation.kind] = needed.get(operation.kind, frozenset()) | operation.features()
    return needed


def lacking(program: Program, implemented: Needs) -> list[str]:
    """Name what a program needs and a target lacks: ``attention(softcap)``, or an operation by itself."""
    lines = []
    for kind, features in needs(program).items():
        if kind not in implemented:
            lines.append(kind)
        elif missing := sorted(features - implemented[kind]):
            lines.append(f"{kind}({', '.join(missing)})")
    return lines


def missing(part: ArchitecturePart, arch: Architecture, target: Target) -> list[str]:
    """Name the operations and features that an architecture uses and a target lacks; none where it can be built."""
    if target.operations is None:
        return []
    return lacking(record(part, arch, target.head_multiple), target.operations)
