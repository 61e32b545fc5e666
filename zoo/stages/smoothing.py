"""What a build of a narrow model does about its outliers: rescale channels, and give some weights more bits."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from zoo.contracts import Folding, Parameter, few_layers
from zoo.declarations.architecture import Architecture
from zoo.declarations.recipe import Precision, QuantizerChoice, Recipe, SmoothingPin
from zoo.errors import UsageError
from zoo.operations import record, with_lookup_scales
from zoo.registry import Registry
from zoo.stages.request import Request

CHOICES = ("auto", "always", "none")
NARROW = 2048
"""``auto`` rescales models narrower than this: their rows average over few blocks, and it was measured to help there
(CHANGELOG.md). It takes a build about half its processor time again, and 4-bit blocks several times as much: seconds
there, but minutes at 33B."""
TOKENS = 64
FIT = (0.3, 0.6)
"""Tokens and powers for 4-bit blocks, chosen by measurement (docs/accuracy.md). They take less of the inputs' sizes
than 8 bits do, since what is left of those weighs errors, and more of the weights'."""
DEEP, ENDS = 16, 2
"""Layers from which on a narrow model's first two and last two, and all that make q, k and v, get 8 bits in an int4
build: a quarter of the weights, chosen by measurement (docs/accuracy.md)."""
RAISED = "attn.qkv_proj"


def choose_bits(
    registry: Registry, request: Request, precision: Precision, quantizer: QuantizerChoice, architecture: Architecture
) -> QuantizerChoice:
    """Give the weights that lose most in 4 bits 8, where nobody chose: in the option ``keep``, spelled out."""
    layers, target = architecture.num_hidden_layers, registry.target(request.target)
    stated = request.mixed is not None or "keep" in request.quantizer_options or "keep" not in quantizer.options
    if precision != "int4" or stated or not getattr(target, "rounds_activations", False):
        return quantizer
    if architecture.hidden_size >= NARROW or layers < DEEP:
        return quantizer
    ends = (f"*.layers.{layer}.*" for layer in (*range(ENDS), *range(layers - ENDS, layers)))
    keep = dict.fromkeys((RAISED, *ends), "int8")
    return quantizer.model_copy(update={"options": {**quantizer.options, "keep": keep}})


def choose_smoothing(
    registry: Registry, request: Request, precision: Precision, quantizer: QuantizerChoice, architecture: Architecture
) -> SmoothingPin | None:
    """Decide whether channels are rescaled.

    ``auto`` does it where kernels round what weights are multiplied with and the model is narrow. What is chosen or
    calibrated by activations stays as it is measured.

    Raises:
        UsageError: another word, or ``always`` where it is not possible.
    """
    asked = request.smoothing
    if asked not in CHOICES:
        raise UsageError(f"--smoothing is {', '.join(CHOICES)}, not {asked!r}")
    target = registry.target(request.target)
    rounds = target.needs_weights and bool(getattr(target, "rounds_activations", False))
    kind = registry.quantizer(quantizer.name)
    measured = issubclass(kind, Folding) or (request.mixed is not None and not kind.needs_activations)
    if precision == "int4" and asked == "auto" and not getattr(kind, "fits_energies", False):
        return None  # it has an importance of its own, of the channels as they are
    if asked == "none" or (asked == "auto" and architecture.hidden_size >= NARROW):
        return None
    if rounds and not measured and precision in ("int8", "int4"):
        from zoo.smoothing.plan import plan_smoothing

        part = registry.architecture(architecture.type)
        short = few_layers(part, architecture)  # lists resolve thousands of models
        program = record(part, short, target.head_multiple)
        computed = (weight for step in program.steps for weight in step.operation.weights)
        if _tensors(computed) == _tensors(part.parameters(short, target.head_multiple)) and (
            plan_smoothing(with_lookup_scales(program)) is not None
        ):
            return SmoothingPin(tokens=TOKENS, fit=FIT) if precision == "int4" else SmoothingPin()
    if asked == "always":
        raise UsageError(
            f"--smoothing always: target {request.target!r} at {precision} has nothing to rescale here, or activations "
            "are measured otherwise; leave it out"
        )
    return None


def _tensors(parameters: Iterable[Parameter]) -> set[str]:
    """Name the tensors that are read; an architecture may compute with weights that it stores otherwise."""
    return {each.tensor for parameter in parameters for each in parameter.slices}


@contextmanager
def steady_products(recipes: Iterable[Recipe]) -> Iterator[None]:
    """Let products of matrices be computed by the thread that asks for them: the same sums with any number of them."""
    if all(recipe.smoothing is None for recipe in recipes):
        yield
        return
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1, "blas"):
        yield
