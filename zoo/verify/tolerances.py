"""How far a package may be from the original weights, by precision: all limits in one place.

Float32 differs only by the order of sums; float16 weights are mostly the checkpoint's own numbers. Both were measured
at 8e-6 standard deviations of the logits on the bundled model, and what is past their limits is wrong.

Weights of 8 and 4 bits are rounded, and their kernels round activations to 8 bits too. What is wrong there shows in a
layer by itself, in the kernels against the same weights with float activations, in a weight against the original, and
in the engine's tokens against the package's own logits. Measured on a trained model of 576 channels, which has the
outliers that random weights lack (``docs/accuracy.md``): a layer by itself up to 0.019 at 8 bits and 0.23 at 4, its
kernels up to 0.015 and 0.028; at 4 bits, of what is allowed, a weight up to 0.51. The limits leave two to five times
that; the tests spoil packages by scales, by nibbles and by the order of rows to see that such mistakes are past them.

How much a sound package loses depends on the model. Its limits are what packages of the same precision lose on the
model of the most similar width in ``data/losses.json``, which ``benchmarks/real.py`` writes, and half as much again;
past them a package is lossy, not wrong, up to ``kl_broken``: twice what the coarsest format there loses.
"""

from __future__ import annotations

import json
import math
from functools import cache
from importlib.resources import files

from zoo.declarations.base import Value
from zoo.declarations.recipe import Precision


class Tolerance(Value):
    """The limits of a precision. What is None is measured and not judged."""

    logit_difference: float | None
    """Largest logit difference, in standard deviations of the logits at a position."""
    kl_mean: float
    """Mean KL(reference ‖ package), nats."""
    top1: float
    """Smallest share of positions with the same likeliest token, near ties counting as the same."""
    perplexity: float
    """Largest relative difference of the two perplexities."""
    layer: float
    """Largest error of one layer on the reference's input, relative to what the layer adds to the hidden states."""
    arithmetic: float
    """Largest such error against the package's own weights with float activations."""
    tie: float
    """Nats under which the reference's preference for its top token over another is a near tie."""
    greedy: float
    """Nats by which the reference, or the package where it rounds, may prefer another token to the engine's."""
    kl_broken: float | None = None
    """Mean KL that no rounding explains; None where weights are not rounded, and every limit says what is wrong."""


TOLERANCES: dict[Precision, Tolerance] = {
    "fp32": Tolerance(
        logit_difference=1e-3, kl_mean=1e-6, top1=0.999, perplexity=1e-4, layer=1e-3, arithmetic=1e-3, tie=1e-3,
        greedy=1e-2,
    ),
    "fp16": Tolerance(
        logit_difference=2e-2, kl_mean=1e-4, top1=0.995, perplexity=1e-3, layer=1e-2, arithmetic=1e-2, tie=5e-3,
        greedy=5e-2,
    ),
    "int8": Tolerance(
        logit_difference=None, kl_mean=5e-3, top1=0.99, perplexity=5e-3, layer=0.1, arithmetic=0.1, tie=0.2,
        greedy=0.5, kl_broken=0.1,
    ),
    "int4": Tolerance(
        logit_difference=None, kl_mean=0.2, top1=0.9, perplexity=0.1, layer=0.5, arithmetic=0.1, tie=0.5, greedy=0.5,
        kl_broken=0.9,
    ),
}  # fmt: skip
_MARGIN = 1.5
"""Times what is usual: texts differ."""


class Usual(Value):
    """What a package of a trained model lost, over texts of three kinds."""

    name: str
    precision: Precision
    kl_mean: float
    top1: float
    perplexity: float | None = None
    """Relative difference of the perplexities on English text."""


class UsualLosses(Value):
    """What packages of one trained model lost, ours and others'."""

    model: str
    hidden_size: int
    packages: tuple[Usual, ...]

    def of(self, precision: Precision) -> tuple[Usual, ...]:
        """Those of a precision."""
        return tuple(package for package in self.packages if package.precision == precision)


@cache
def _measured() -> tuple[UsualLosses, ...]:
    raw = (files("zoo.verify") / "data" / "losses.json").read_text(encoding="utf-8")
    return tuple(UsualLosses.model_validate(model) for model in json.loads(raw))


def usual_losses(width: int) -> UsualLosses:
    """Get what was measured on the model whose hidden size is the most similar."""
    return min(_measured(), key=lambda model: abs(math.log(model.hidden_size / width)))


def tolerance_of(precision: Precision, width: int) -> Tolerance:
    """Get a precision's limits; where weights are rounded, a model of this hidden size may lose what is usual."""
    fixed, usual = TOLERANCES[precision], usual_losses(width).of(precision)
    if fixed.kl_broken is None or not usual:
        return fixed
    return fixed.model_copy(update={
        "kl_mean": _MARGIN * max(package.kl_mean for package in usual),
        "top1": 1 - _MARGIN * (1 - min(package.top1 for package in usual)),
        "perplexity": _MARGIN * max((abs(one.perplexity) for one in usual if one.perplexity), default=fixed.perplexity),
    })  # fmt: skip


def of_engine(precision: Precision, width: int) -> Tolerance:
    """Get the limits where another program computes: it may round activations to 8 bits, as int8 does."""
    return tolerance_of("int8" if precision in ("fp32", "fp16") else precision, width)
