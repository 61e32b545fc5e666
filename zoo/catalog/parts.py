"""Targets and quantizers, described by what their classes state."""

from __future__ import annotations

import inspect
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from zoo.catalog.cards import Option, PartCard
from zoo.errors import ZooError
from zoo.operations import Needs
from zoo.registry import Registry


def target_card(registry: Registry, name: str, plugin: str | None) -> PartCard:
    """Describe a target; one that cannot be imported says why."""
    try:
        target: Any = registry.target(name)
    except ZooError as error:
        return _broken("target", name, plugin, error)
    properties = {
        "operations": _operations(target.operations),
        "reads weights": "yes" if target.needs_weights else "no: it writes files for other tools",
        "engines": ", ".join(target.engines) or "none: other programs run it",
        "emitter version": str(target.emitter_version),
    }
    for tool in getattr(target, "tools", ()):
        least = f", {'.'.join(map(str, tool.minimum))} or newer" if tool.minimum else ""
        properties[f"tool {tool.name}"] = f"{tool.purpose}{least}; {tool.install}"
    return PartCard(
        kind="target",
        name=name,
        plugin=plugin,
        summary=_summary(type(target)),
        precisions=dict(target.precisions),
        properties=properties,
        options=_options(target.Options),
    )


def quantizer_card(registry: Registry, name: str, plugin: str | None) -> PartCard:
    """Describe a quantizer; one that cannot be imported says why."""
    try:
        kind: Any = registry.quantizer(name)
    except ZooError as error:
        return _broken("quantizer", name, plugin, error)
    return PartCard(
        kind="quantizer",
        name=name,
        plugin=plugin,
        summary=_summary(kind),
        precisions=dict.fromkeys(kind.precisions),
        properties={"calibration data": "needed" if kind.needs_activations else "none"},
        options=_options(kind.Options),
    )


def _operations(implemented: Needs | None) -> str:
    """List what a target computes, features in brackets."""
    if implemented is None:
        return "the checkpoint's own: another program reads it"
    return ", ".join(
        kind + (f" ({', '.join(sorted(features))})" if features else "") for kind, features in implemented.items()
    )


def _broken(kind: Any, name: str, plugin: str | None, error: ZooError) -> PartCard:
    return PartCard(
        kind=kind, name=name, plugin=plugin, summary="", precisions={}, properties={}, options=(), problem=str(error)
    )


def _summary(part: type) -> str:
    """The first paragraph of a class's docstring."""
    text = inspect.cleandoc(part.__doc__ or "")
    return " ".join(text.split("\n\n")[0].split())


def _options(model: Any) -> tuple[Option, ...]:
    return tuple(
        Option(
            name=name,
            type=_type(field.annotation),
            default="required" if field.is_required() else _plain(field.get_default(call_default_factory=True)),
            description=field.description or "",
        )
        for name, field in model.model_fields.items()
    )


def _type(annotation: Any) -> str:
    """Write a type as one would in a declaration: without constraints, choices as they are."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _type(inner[0])
    if origin is Literal:
        return " | ".join(map(str, inner))
    if origin in (Union, UnionType):
        return " | ".join(_type(argument) for argument in inner)
    if annotation in (None, type(None)):
        return "None"
    if annotation is Ellipsis:
        return "..."
    name = str(getattr(origin or annotation, "__name__", origin or annotation))
    return f"{name}[{', '.join(map(_type, inner))}]" if inner else name


def _plain(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)
