"""What a request leaves open, chosen and spelled out: precision, quantizer, calibration data, the target's options."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from zoo.contracts import reads_weights
from zoo.declarations.architecture import Architecture
from zoo.declarations.dataset import CalibrationUse
from zoo.declarations.recipe import PRECISIONS, CalibrationPin, Precision, QuantizerChoice
from zoo.errors import UsageError, unknown
from zoo.registry import DeclaredFamily, DeclaredModel, Registry
from zoo.stages.request import Request
from zoo.yamlfile import explain

DEFAULT_SAMPLES = 128
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
        raise UsageError(f"quantizer {name!r} supports {', '.join(quantizer.precisions)}, not {precision}")
    preferred = getattr(registry.target(request.target), "quantizer_options", {}).get(precision, {})
    stated = {key: value for key, value in preferred.items() if key in quantizer.Options.model_fields}
    options = check_options(f"quantizer {name!r}", quantizer.Options, {**stated, **request.quantizer_options})
    spelled_out = quantizer(precision, options).options
    return QuantizerChoice(name=name, options=spelled_out.model_dump(mode="json"))


def check_mixed(request: Request) -> None:
    """Check the options of a choice of precisions.

    Raises:
        UsageError: another word than ``auto``, or a budget of no choice.
    """
    if request.mixed not in (None, "auto"):
        raise UsageError(f"--mixed is auto, not {request.mixed!r}; --quantizer-option keep=… states a choice by hand")
    if request.mixed is None and request.mixed_budget is not None:
        raise UsageError("--mixed-budget is for --mixed auto")


def choose_calibration(
    registry: Registry, request: Request, quantizer: QuantizerChoice, family: DeclaredFamily | None
) -> CalibrationPin | None:
    """Take the calibration data asked for, or the family's first, for a quantizer that needs activations.

    Raises:
        UsageError: an unknown dataset, one that is not for calibration, or a quantizer that needs none.
    """
    name = request.calibration
    if not registry.quantizer(quantizer.name).needs_activations and request.mixed is None:
        for option in ("calibration", "samples", "sequence_length", "activations"):
            if getattr(request, option) is not None:
                raise UsageError(
                    f"quantizer {quantizer.name!r} needs no calibration data; leave --{option.replace('_', '-')} out"
                )
        return None
    uses = family.family.datasets.calibration if family else ()
    use: CalibrationUse | None = next((use for use in uses if name in (None, use.dataset)), None)
    if use is not None:
        return _pin(request, quantizer, use.dataset, use.samples, use.sequence_length)
    if name is None:
        if reads_weights(registry.target(request.target), request.target_options):
            mixed = request.mixed is not None and not registry.quantizer(quantizer.name).needs_activations
            raise needs_calibration("--mixed auto" if mixed else f"quantizer {quantizer.name!r}")
        return None
    if is_path(name, registry):
        return _pin(request, quantizer, Path(name).name, DEFAULT_SAMPLES, DEFAULT_SEQUENCE_LENGTH)
    if "calibration" not in registry.dataset(name).purposes:
        raise UsageError(f"dataset {name!r} is not a calibration dataset")
    return _pin(request, quantizer, name, DEFAULT_SAMPLES, DEFAULT_SEQUENCE_LENGTH)


def is_path(name: str, registry: Registry) -> bool:
    """Tell whether calibration data is given as a file: no declared dataset, and it looks like a path or is one."""
    return name not in registry.datasets and ("/" in name or "." in name or Path(name).exists())


def needs_calibration(what: str) -> UsageError:
    """The error of a calibrated quantizer, or of another thing that measures, without data."""
    return UsageError(
        f"{what} needs calibration data; give --calibration NAME of a dataset, or the PATH of a text, "
        "JSON, JSONL, CSV, .gz or .zip file"
    )


def _pin(request: Request, quantizer: QuantizerChoice, dataset: str, samples: int, length: int) -> CalibrationPin:
    sequential = quantizer.options.get("true_sequential") is True
    activations = request.activations or ("original" if request.together and not sequential else "stored")
    if activations not in ("stored", "original"):
        raise UsageError(f"--activations is stored or original, not {activations!r}")
    if activations == "original" and sequential:
        raise UsageError("true_sequential observes what was stored; leave it out, or --activations original")
    return CalibrationPin(
        dataset=dataset,
        samples=request.samples or samples,
        sequence_length=request.sequence_length or length,
        seed=request.seed,
        activations="original" if activations == "original" else "stored",
    )


def target_options(
    registry: Registry,
    request: Request,
    declared: DeclaredModel | None,
    family: DeclaredFamily | None,
    architecture: Architecture,
    dtype: str | None = None,
) -> dict[str, Any]:
    """Merge a target's defaults, the family's departures and what was asked for, checked by the target's own model.

    Args:
        dtype: the 16-bit type of the checkpoint's weights; None where no checkpoint was opened.
    """
    stated: Mapping[str, Any] = {}
    if declared is not None:
        stated = declared.target_options(request.target)
    elif family is not None:
        stated = family.family.targets.get(request.target, {})
    model = registry.target(request.target).Options
    whose = f"target {request.target!r}"
    of_strangers = stated.keys() - request.target_options.keys()
    merged = {**stated, **request.target_options}
    options = check_options(whose, model, merged, architecture, of_strangers, dtype)
    return dict(options.model_dump(mode="json"))


def check_options(
    whose: str,
    model: Any,
    options: Mapping[str, Any],
    architecture: Architecture | None = None,
    declared: Iterable[str] = (),
    dtype: str | None = None,
) -> Any:
    """Validate options by their model; its validators find the model's numbers in ``info.context["architecture"]``.

    Args:
        declared: the options that come from a declaration, a stranger's, in ``info.context["declared"]``.
        dtype: the 16-bit type of the checkpoint's weights, in ``info.context["dtype"]``.

    Raises:
        UsageError: naming the first option that is unknown or out of range.
    """
    try:
        return model.model_validate(
            dict(options), context={"architecture": architecture, "declared": frozenset(declared), "dtype": dtype}
        )
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(step) for step in first["loc"])
        if first["type"] == "extra_forbidden":
            raise unknown(f"option of {whose}", name, model.model_fields) from None
        raise UsageError(f"{whose}: option {name}: {explain(first)}") from None
