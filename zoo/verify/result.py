"""The outcome of a verification, and how it is judged."""

from __future__ import annotations

import math

from zoo.declarations.base import Value
from zoo.verify.tolerances import Tolerance
from zoo.verify.weights import WeightError


class Place(Value):
    """How far the package is off after one step of the computation."""

    name: str
    """``embedding``, ``layer 0``, ``layer 1``, ..., ``head``."""
    carried: float | None
    """Relative RMS error of the hidden states (of the logits, for the head), errors of earlier steps included."""
    own: float | None
    """Error that this step makes on the reference's input, relative to what it adds to the hidden states."""
    weights: float | None = None
    """What rounding weights has in it: the same step by the package's dequantized weights with float activations."""
    arithmetic: float | None = None
    """What the package's kernels have in it: their result against that of the same weights with float activations."""


class Loss(Value):
    """A package's mean KL on some positions of one text, nats, and what of it weights and activations lost."""

    positions: int
    whole: float | None
    weights: float | None
    """KL(reference ‖ dequantized weights with float activations)."""
    activations: float | None
    """KL(dequantized weights with float activations ‖ package)."""


class Greedy(Value):
    """A prompt that the package's engine continued by its likeliest tokens."""

    prompt: str
    tokens: int
    equal: int
    """Tokens from the start that the reference would have chosen too."""
    worst: float
    """Nats by which the reference preferred its own token on the same prefix, at worst; 0 where all are equal."""
    own_worst: float = 0.0
    """The same of the package itself, all positions at once, in place of the reference: what the engine gets wrong."""


class Figures(Value):
    """What was measured; a number that is not finite is None."""

    positions: int
    text_tokens: int
    """Tokens whose likelihood makes the perplexities; 0 where no tokenizer could read the text."""
    top1: float
    top1_but_ties: float
    kl_mean: float | None
    kl_worst: float | None
    largest_logit_difference: float | None
    logit_difference: float | None
    """The same in standard deviations of the reference's logits at a position."""
    perplexity_reference: float | None
    perplexity: float | None
    perplexity_chance: float | None
    """Standard error of the relative difference of the two."""
    not_finite: int
    """Positions at which the package gave a logit that is not finite."""
    places: tuple[Place, ...]
    """Empty where the package's engine gives logits and no hidden states."""
    greedy: tuple[Greedy, ...] | None = None
    """None where the package does not fit into memory whole, or its engine cannot run it."""
    weights: tuple[WeightError, ...] | None = None
    """As they are read back; None where a calibrated quantizer rescaled them."""
    loss: Loss | None = None
    """None where the package's engine gives logits alone, or its computation cannot be cut into layers."""


class Check(Value):
    """A figure against its limit."""

    name: str
    value: float | None
    limit: float
    at_least: bool = False
    """The limit is the smallest allowed value, not the largest."""
    passed: bool
    breaks: bool = True
    """Past the limit, the package is wrong. Otherwise it is sound, and loses more than is usual at its precision."""


class Verdict(Value):
    """Figures, judged."""

    figures: Figures
    checks: tuple[Check, ...]
    passed: bool
    diverging: str | None
    """The first place past the tolerance of a place; None if the figures pass, or if none is."""


def finite(value: float) -> float | None:
    """The value, or None where it is not finite."""
    return value if math.isfinite(value) else None


def judge(figures: Figures, tolerance: Tolerance) -> Verdict:
    """Hold figures against a precision's limits; what is not finite fails.

    Where a precision rounds, distance from the reference is loss, not a fault, up to what no rounding explains.
    """
    rounds, beyond = tolerance.kl_broken is not None, tolerance.kl_broken or 0.0
    checks = [_check("positions with logits that are not finite", float(figures.not_finite), 0.0)]
    if rounds:
        checks.append(_check("mean KL, nats, more than rounding costs", figures.kl_mean, beyond))
    if figures.places:
        checks.append(_check("worst error of one layer by itself", _worst(figures, "own"), tolerance.layer))
    if figures.loss is not None:
        checks.append(_check("worst error of one layer's kernels", _worst(figures, "arithmetic"), tolerance.arithmetic))
    if figures.weights is not None:
        worst = max((weight.share for weight in figures.weights), default=0.0)
        checks.append(_check("worst error of a weight, of what its type allows", worst, 1.0))
    if figures.greedy and rounds:
        worst = max(prompt.own_worst for prompt in figures.greedy)
        checks.append(_check("worst greedy token, nats behind the package's own", worst, tolerance.greedy))
    losses = [
        _check("mean KL, nats", figures.kl_mean, tolerance.kl_mean),
        _check("top-1 agreement, near ties aside", figures.top1_but_ties, tolerance.top1, at_least=True),
    ]
    if tolerance.logit_difference is not None:
        losses.append(
            _check("largest logit difference, deviations", figures.logit_difference, tolerance.logit_difference)
        )
    if figures.text_tokens:
        losses.append(_perplexity_check(figures, figures.perplexity_reference, tolerance))
    if figures.greedy and not rounds:
        worst = max(prompt.worst for prompt in figures.greedy)
        losses.append(_check("worst greedy token, nats behind the reference's", worst, tolerance.greedy))
    checks += [check.model_copy(update={"breaks": not rounds or check.value is None}) for check in losses]
    passed = all(check.passed or not check.breaks for check in checks)
    return Verdict(
        figures=figures,
        checks=tuple(checks),
        passed=passed,
        diverging=None if passed else _first_past(figures, tolerance),
    )


def _check(name: str, value: float | None, limit: float, *, at_least: bool = False) -> Check:
    good = value is not None and (value >= limit if at_least else value <= limit)
    return Check(name=name, value=value, limit=limit, at_least=at_least, passed=good)


def _worst(figures: Figures, kind: str) -> float | None:
    """The largest error that one place makes by itself; flat logits, as random weights make them, would hide it."""
    values = [getattr(place, kind) for place in figures.places if kind == "own" or place.weights is not None]
    return None if None in values else max(values, default=0.0)


def _perplexity_check(figures: Figures, reference: float | None, tolerance: Tolerance) -> Check:
    change = abs(figures.perplexity / reference - 1) if figures.perplexity is not None and reference else None
    # On a short text a difference may be chance; what two standard errors can explain is no failure.
    limit = tolerance.perplexity + 2 * (figures.perplexity_chance or 0.0)
    return _check("perplexity, relative difference", change, limit)


def _first_past(figures: Figures, tolerance: Tolerance) -> str | None:
    """Name the first place past a limit: in its kernels, by itself, or with the errors before it; or a weight."""
    limits = {"arithmetic": tolerance.arithmetic, "own": tolerance.layer, "carried": tolerance.layer}
    for kind, limit in limits.items():
        for place in figures.places:
            value = getattr(place, kind)
            if (value is None and kind != "arithmetic") or (value is not None and value > limit):
                return place.name
        weight = next((weight.name for weight in figures.weights or () if weight.share > 1), None)
        if kind == "own" and weight is not None:
            return weight
    return None
