"""Options that commands share, that come from a request's own fields, or from the chosen target's options model.

A field ``batch_size`` of a target's options is ``--batch-size VALUE``; a yes-or-no field is ``--name/--no-name``; a
list is written ``1024,2048``; a field of choices whose ``json_schema_extra`` says ``{"flags": True}`` is one flag a
choice.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Sequence
from dataclasses import Field, fields
from functools import partial, wraps
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import typer
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from typer.core import TyperCommand

from zoo.cli.output import parse_bytes
from zoo.errors import UsageError

Precision = Annotated[
    str | None, typer.Option("-p", "--precision", help="Precision of the package, if several are built.")
]
EngineName = Annotated[
    str | None, typer.Option(metavar="NAME", help="Engine that opens the package; its target's own by default.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]

GIVEN = "zoo.target_options"
"""Key of the context under which given options are kept: field → value, unchecked."""


DRAFT_HELP = (
    "A much smaller model with the same tokenizer that drafts tokens; answers do not change. auto: the model that the "
    "declaration names."
)
KV_HELP = (
    "Keys and values in 8 bits: a quarter of their memory, faster after long texts, slightly other answers. auto: fp32."
)


def with_options(*requests: type) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the fields of requests' dataclasses that are declared by ``option``, as its own ``**options``."""
    annotations = {name: kind for request in requests for name, kind in get_type_hints(request).items()}
    declared = [field for request in requests for field in fields(request) if field.metadata]
    added = [_parameter(field, annotations[field.name]) for field in declared]
    several = {parameter.name: get_origin(annotations[parameter.name]) for parameter in added}

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        signature = inspect.signature(command, eval_str=True)
        own = [parameter for parameter in signature.parameters.values() if parameter.kind is not parameter.VAR_KEYWORD]

        @wraps(command)
        def with_fields(**values: Any) -> None:
            for name, kind in several.items():
                if kind in (tuple, frozenset):
                    values[name] = kind(values[name] or ())
            command(**values)

        required = [parameter for parameter in own if parameter.default is parameter.empty]
        parameters = [*required, *added, *own[len(required) :]]
        parameters = [parameter.replace(kind=parameter.KEYWORD_ONLY) for parameter in parameters]
        with_fields.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
        with_fields.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        return with_fields

    return decorate


def chosen_options(request: type, options: dict[str, Any]) -> dict[str, Any]:
    """Return the options that are fields of one of several requests."""
    return {field.name: options[field.name] for field in fields(request) if field.name in options}


def _parameter(field: Field[Any], annotation: Any) -> inspect.Parameter:
    """Make the command line parameter of a request's field."""
    spelling = dict(field.metadata)
    flag, default = spelling.pop("flag", ""), spelling.pop("written", field.default)
    option = flag if flag.startswith("--") else f"--{field.name.replace('_', '-')}"
    if spelling.pop("size", False):
        spelling["parser"] = partial(parse_bytes, option=option)
    if get_origin(annotation) in (tuple, frozenset):
        annotation, default = list[get_args(annotation)[0]] | None, None  # type: ignore[misc]
    made = typer.Option(*dict.fromkeys((flag or option, option)), **spelling)
    return inspect.Parameter(
        field.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[annotation, made]
    )


class TargetCommand(TyperCommand):
    """A command that also takes the options of the target that ``--target`` names."""

    selector = "--target"
    default: str | None = "ort"
    """The target whose options are taken by default; None for no target."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Find the target first, then parse its options together with the command's own."""
        named = chosen_target(args, self.selector)
        asks_help = any(argument in ctx.help_option_names for argument in args)
        target = named if named is not None or asks_help else self.default
        ctx.meta["zoo.extra"] = [] if target is None else self._extra(target)
        return super().parse_args(ctx, args)

    def options_of(self, target: str) -> type[BaseModel]:
        """Return the options model of the named target; an empty model for several targets."""
        from zoo.declarations.base import Value
        from zoo.plugins import host

        return Value if "," in target else host().registry.target(target).Options

    def _extra(self, target: str) -> list[Any]:
        taken = {opt for parameter in self.params for opt in (*parameter.opts, *parameter.secondary_opts)}
        panel = f"Options of the {self.selector.removeprefix('--')} {target}"
        return target_parameters(self.options_of(target), taken, panel)

    def get_params(self, ctx: Any) -> list[Any]:
        """List the command's own parameters and the target's."""
        return [*super().get_params(ctx), *ctx.meta.get("zoo.extra", [])]

    def invoke(self, ctx: Any) -> Any:
        """Set the target's options aside, and run."""
        extra = ctx.meta.get("zoo.extra", [])
        values = {parameter.name: ctx.params.pop(parameter.name) for parameter in extra}
        if extra:
            ctx.meta[GIVEN] = read_values(extra[0].zoo_options, values)
        return super().invoke(ctx)


def chosen_target(args: Sequence[str], selector: str = "--target") -> str | None:
    """Return the value of ``--target``, or of another option, before anything else is parsed."""
    chosen = None
    for index, one in enumerate(args):
        if one == "--":
            break
        if one == selector and index + 1 < len(args):
            chosen = args[index + 1]
        elif one.startswith(f"{selector}="):
            chosen = one.partition("=")[2]
    return chosen


def target_parameters(options: type[BaseModel], taken: set[str], panel: str) -> list[Any]:
    """Make the command line parameters of an options model; one whose name the command has itself is left out."""
    signature = []
    for name, field in options.model_fields.items():
        for parameter, flag, kind in _spellings(name, field):
            if flag.split("/")[0] in taken:
                continue
            option = typer.Option(
                flag,
                help=_help(field, parameter, name),
                metavar=None if kind is bool else _metavar(field),
                rich_help_panel=panel,
            )
            annotation: Any = Annotated[kind | None, option]
            signature.append(
                inspect.Parameter(parameter, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)
            )

    def command(**values: Any) -> None: ...

    command.__signature__ = inspect.Signature(signature)  # type: ignore[attr-defined]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in signature}
    app = typer.Typer(add_completion=False)
    app.command()(command)
    made = typer.main.get_command(app).params
    for shown in made:
        shown.zoo_options = options  # type: ignore[attr-defined]
    return list(made)


def read_values(options: type[BaseModel], values: dict[str, Any]) -> dict[str, Any]:
    """Convert command line values to fields of the options model, unchecked.

    Raises:
        UsageError: two flags of one field, or text that is not JSON where a field needs it.
    """
    result: dict[str, Any] = {}
    for name, field in options.model_fields.items():
        given = [(flag, choice) for choice, flag in _flags(field).items() if values.get(_identifier(choice))]
        if len(given) > 1:
            raise UsageError(f"{' and '.join(flag for flag, _ in given)} cannot be used together")
        if given:
            result[name] = given[0][1]
        elif values.get(name) is not None:
            result[name] = _read(name, field, values[name])
    return result


def _read(name: str, field: FieldInfo, value: Any) -> Any:
    kind = _shape(field)
    if kind in (tuple, list) and isinstance(value, str):
        return [item.strip() for item in value.split(",") if item.strip()]
    if kind is dict:
        try:
            return json.loads(value)
        except ValueError:
            raise UsageError(f"--{name.replace('_', '-')} takes JSON, for example '{{\"key\": 1}}'") from None
    # A choice of numbers is not a choice of texts to pydantic.
    return next((choice for choice in _choices(field) if str(choice) == value), value)


def _spellings(name: str, field: FieldInfo) -> list[tuple[str, str, Any]]:
    """List a field's parameters: (parameter, flag, bool or str)."""
    flags = _flags(field)
    if flags:
        return [(_identifier(choice), flag, bool) for choice, flag in flags.items()]
    option = name.replace("_", "-")
    if _shape(field) is bool:
        return [(name, f"--{option}/--no-{option}", bool)]
    return [(name, f"--{option}", str)]


def _flags(field: FieldInfo) -> dict[str, str]:
    extra = field.json_schema_extra
    if not isinstance(extra, dict) or not extra.get("flags"):
        return {}
    return {choice: f"--{choice.replace('_', '-')}" for choice in _choices(field)}


def _identifier(choice: str) -> str:
    return choice.replace("-", "_")


def _alternatives(annotation: Any) -> list[Any]:
    """Return the members of a union without None and annotations."""
    if get_origin(annotation) is Annotated:
        return _alternatives(get_args(annotation)[0])
    if get_origin(annotation) is Union or type(annotation).__name__ == "UnionType":
        return [found for member in get_args(annotation) if member is not type(None) for found in _alternatives(member)]
    return [annotation]


def _shape(field: FieldInfo) -> Any:
    """Return how a field's value is written: bool, tuple, list, dict, or another type for plain text."""
    kinds = _alternatives(field.annotation)
    return (get_origin(kinds[0]) or kinds[0]) if len(kinds) == 1 else str


def _choices(field: FieldInfo) -> list[Any]:
    kinds = _alternatives(field.annotation)
    return [choice for kind in kinds if get_origin(kind) is Literal for choice in get_args(kind)]


def _metavar(field: FieldInfo) -> str:
    kind = _shape(field)
    if kind in (tuple, list):
        return "A,B,..."
    if kind is dict:
        return "JSON"
    choices = _choices(field)
    return "|".join(map(str, choices)) if choices else {int: "N", float: "X"}.get(kind, "TEXT")


def _help(field: FieldInfo, parameter: str, name: str) -> str:
    text = field.description or ""
    if parameter != name:
        return f"{name} {parameter}. {text}" if text else f"{name} {parameter}"
    if field.default is None or field.is_required() or field.default_factory is not None:
        return text
    shown = ",".join(map(str, field.default)) if isinstance(field.default, tuple) else field.default
    return f"{text} [default: {shown}]".strip()
