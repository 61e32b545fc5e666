"""How far a package may be from the original weights, by precision: all limits in one place.

Float32 differs only by the order of sums; float16 weights are mostly the checkpoint's own numbers. Both were measured
at 8e-6 standard deviations of the logits on the bundled model. Weights of 8 and 4 bits are rounded, and their kernels
round activations to 8 bits too. On the bundled model, over texts unlike any that it learned, and on random weights as
wide as trained ones (standard deviation 0.02 to 0.05) were measured: int8 mean KL up to 2e-3, a layer by itself up to
0.03; int4 mean KL up to 0.05, a layer by itself up to 0.22. The limits leave about twice to four times that; the tests
spoil packages by scales and by the order of rows to see that such mistakes are past them. What the quantizers cost on
text of a model's own kind: docs/accuracy.md.
"""

from __future__ import annotations

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
    tie: float
    """Nats under which the reference's preference for its top token over another is a near tie."""
    greedy: float
    """Nats by which the reference may prefer its own token to one that the package's engine chose."""


TOLERANCES: dict[Precision, Tolerance] = {
    "fp32": Tolerance(
        logit_difference=1e-3, kl_mean=1e-6, top1=0.999, perplexity=1e-4, layer=1e-3, tie=1e-3, greedy=1e-2
    ),
    "fp16": Tolerance(
        logit_difference=2e-2, kl_mean=1e-4, top1=0.995, perplexity=1e-3, layer=1e-2, tie=5e-3, greedy=5e-2
    ),
    "int8": Tolerance(
        logit_difference=None, kl_mean=5e-3, top1=0.99, perplexity=5e-3, layer=0.1, tie=0.2, greedy=0.5
    ),
    "int4": Tolerance(
        logit_difference=None, kl_mean=0.2, top1=0.9, perplexity=0.1, layer=0.5, tie=0.5, greedy=3.0
    ),
}  # fmt: skip


def of_engine(precision: Precision) -> Tolerance:
    """Get the limits where another program computes: it may round activations to 8 bits, as int8 does."""
    return TOLERANCES["int8" if precision in ("fp32", "fp16") else precision]
