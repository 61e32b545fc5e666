"""What a field of an architecture is, said at the field: ``hidden_size: Annotated[Size, Trait.SHAPES]``."""

from __future__ import annotations

import enum
from functools import cache
from types import NoneType
from typing import Any, get_args

from pydantic import BaseModel


class Trait(enum.Enum):
    """A fact about a field that readers of ``config.json``, resolving and scaffolding act on."""

    SHAPES = enum.auto()
    """It shapes tensors: a declaration and a checkpoint that disagree on it are an error."""
    REQUIRED = enum.auto()
    """A size that ``config.json`` must state, or that has one usual value where it does not."""
    DERIVED = enum.auto()
    """A size that follows from the others where ``config.json`` does not state it."""
    FLAG = enum.auto()
    """A yes or no that ``config.json`` states under this very name; absent is no."""
    IMPLIED = enum.auto()
    """No ``config.json`` states it: it follows from the ``model_type``, which a family claims."""
    CLAIMED = enum.auto()
    """``config.json`` may state it, and only the code of some model types looks there: it is read where the claim of
    the type speaks of it, and refused elsewhere."""
    PER_LAYER = enum.auto()
    """One value a layer."""
    WINDOW = enum.auto()
    """Only the code of some model types looks at it; elsewhere a ``config.json`` carries it for nothing."""
    LATER = enum.auto()
    """Added when packages existed already: it enters a recipe's hash only where it differs from its default, so that
    their hashes stay what they were. Every new field of a recipe and of what it holds has this trait."""


@cache
def fields_with(model: type[BaseModel], trait: Trait) -> tuple[str, ...]:
    """List the fields of a model that have a trait, in the model's order."""
    return tuple(name for name, field in model.model_fields.items() if trait in field.metadata)


@cache
def nullable_fields(model: type[BaseModel]) -> frozenset[str]:
    """Find the fields for which null is a value of its own, not a missing one."""
    return frozenset(name for name, field in model.model_fields.items() if NoneType in get_args(field.annotation))


def hashed_fields(value: BaseModel) -> dict[str, Any]:
    """Dump a model as JSON values, without the fields that were added later and have their default."""
    fields, kind = value.model_dump(mode="json"), type(value)
    for name, field in kind.model_fields.items():
        held = getattr(value, name)
        if Trait.LATER in field.metadata and held == field.get_default(call_default_factory=True):
            del fields[name]
        elif isinstance(held, BaseModel):
            fields[name] = hashed_fields(held)
    return fields
