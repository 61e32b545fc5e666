"""What a request leaves open, chosen and spelled out: precision, quantizer, calibration data, the target's options."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from zoo.declarations.architecture import Architecture
from zoo.declarations.dataset import CalibrationUse
from zoo.declarations.recipe import PRECISIONS, CalibrationPin, Precision, QuantizerChoice
from zoo.errors import UsageError, unknown
from zoo.registry import DeclaredFamily, DeclaredModel, Registry
from zoo.yamlfile import explain

if TYPE_CHECKING:
    from zoo.stages.resolve import Request

DEFAULT_SEQUENCE_LENGTH = 512
"""Tokens of a calibration sample from a dataset for which the family states no length."""


def check_precision(name: str) -> Precision:
    """Check the name of a precision."""
    for precision in PRECISIONS:
        if name == precision:
            return precision
    raise unknown("precision", name, PRECISIONS)


def choose_quantizer(registry: Registry, request: Request, precision: Precision) -> QuantizerChoice:
    """Take the quantizer asked for, or what the target means by the precision, with every option spelled out."""
    name = request.quantizer or registry.target(request.target).precisions[precision]
    quantizer = registry.quantizer(name)
    if precision not in quantizer.precisions:
        raise UsageError(f"quantizer {name!r} makes {', '.join(quantizer.precisions)}, not {precision}")
    options = check_options(f"quantizer {name!r}", quantizer.Options, request.quantizer_options)
    spelled_out = quantizer(precision, options).options
    return QuantizerChoice(name=name, options=spelled_out.model_dump(mode="json"))


def choose_calibration(
    registry: Registry, request: Request, quantizer: QuantizerChoice, family: DeclaredFamily | None
) -> CalibrationPin | None:
    """Take the calibration data asked for, or the family's first, for a quantizer that needs activations.

    Raises:
        UsageError: a dataset that nobody declared, or that is not for calibration, or for a quantizer that needs none.
    """
    name = request.calibration
    if not registry.quantizer(quantizer.name).needs_activations:
        if name is not None:
            raise UsageError(f"quantizer {quantizer.name!r} needs no calibration data; leave --calibration out")
        return None
    uses = family.family.datasets.calibration if family else ()
    if name is None:
        return _calibration(uses[0]) if uses else None
    for use in uses:
        if use.dataset == name:
            return _calibration(use)
    if "calibration" not in registry.dataset(name).purposes:
        raise UsageError(f"dataset {name!r} is not for calibration")
    return _calibration(CalibrationUse(dataset=name, sequence_length=DEFAULT_SEQUENCE_LENGTH))


def _calibration(use: CalibrationUse) -> CalibrationPin:
    return CalibrationPin(dataset=use.dataset, samples=use.samples, sequence_length=use.sequence_length)


def target_options(
    registry: Registry,
    request: Request,
    declared: DeclaredModel | None,
    family: DeclaredFamily | None,
    architecture: Architecture,
) -> dict[str, Any]:
    """Merge a target's defaults, the family's departures and what was asked for, checked by the target's own model."""
    stated: Mapping[str, Any] = {}
    if declared is not None:
        stated = declared.target_options(request.target)
    elif family is not None:
        stated = family.family.targets.get(request.target, {})
    model = registry.target(request.target).Options
    whose = f"target {request.target!r}"
    options = check_options(whose, model, {**stated, **request.target_options}, architecture)
    return dict(options.model_dump(mode="json"))


def check_options(whose: str, model: Any, options: Mapping[str, Any], architecture: Architecture | None = None) -> Any:
    """Validate options by their model; its validators find the model's numbers in ``info.context["architecture"]``.

    Raises:
        UsageError: naming the first option that is unknown or out of range.
    """
    try:
        return model.model_validate(dict(options), context={"architecture": architecture})
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(step) for step in first["loc"])
        if first["type"] == "extra_forbidden":
            raise unknown(f"option of {whose}", name, model.model_fields) from None
        raise UsageError(f"{whose}: option {name}: {explain(first)}") from None
