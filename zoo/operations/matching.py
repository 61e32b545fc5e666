"""Hold what a program needs against what a target implements."""

from __future__ import annotations

from collections.abc import Mapping

from zoo.contracts.architecture import ArchitecturePart, few_layers
from zoo.contracts.target import Selective, Target
from zoo.declarations.architecture import Architecture
from zoo.operations.program import Program
from zoo.operations.record import record

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
    return _difference(needs(program), implemented)


def _difference(needed: Needs, implemented: Needs) -> list[str]:
    lines = []
    for kind, features in needed.items():
        if kind not in implemented:
            lines.append(kind)
        elif missing := sorted(features - implemented[kind]):
            lines.append(f"{kind}({', '.join(missing)})")
    return lines


def missing(part: ArchitecturePart, arch: Architecture, target: Target) -> list[str]:
    """Name the operations and features that an architecture uses and a target lacks; none where it can be built.

    A target that states no operations may say by itself what its runtime lacks (``Selective``).
    """
    if target.operations is None:
        return target.lacks(arch) if isinstance(target, Selective) else []
    return _difference(_needed(part, arch, target.head_multiple), target.operations)


_REMEMBERED = 4096
_remembered: dict[tuple[type, int, str], Needs] = {}


def _needed(part: ArchitecturePart, arch: Architecture, head_multiple: int) -> Needs:
    """Collect what a model needs, once for all that ask; a list of thousands asks often."""
    short = few_layers(part, arch)
    key = (type(part), head_multiple, short.model_dump_json())
    if key not in _remembered:
        if len(_remembered) >= _REMEMBERED:
            _remembered.clear()
        _remembered[key] = needs(record(part, short, head_multiple))
    return _remembered[key]
