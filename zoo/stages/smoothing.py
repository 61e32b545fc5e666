"""Whether a build rescales channels before it rounds weights, and the checkpoint that it reads then."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from zoo.declarations.recipe import Precision, QuantizerChoice, Recipe, SmoothingPin
from zoo.errors import UsageError
from zoo.operations import record

if TYPE_CHECKING:
    from zoo.contracts import Checkpoint
    from zoo.declarations.architecture import Architecture
    from zoo.package.layout import Layout
    from zoo.registry import Registry
    from zoo.stages.request import Request

CHOICES = ("auto", "always", "none")


def choose_smoothing(
    registry: Registry, request: Request, precision: Precision, quantizer: QuantizerChoice, architecture: Architecture
) -> SmoothingPin | None:
    """Decide whether channels are rescaled.

    ``auto`` does it where kernels round what weights are multiplied with and 8 bits are asked for, unless a quantizer
    is calibrated.

    Raises:
        UsageError: another word, or ``always`` where it is not possible.
    """
    asked = request.smoothing
    if asked not in CHOICES:
        raise UsageError(f"--smoothing is {', '.join(CHOICES)}, not {asked!r}")
    target = registry.target(request.target)
    rounds = target.needs_weights and bool(getattr(target, "rounds_activations", False))
    measured = precision == "int8" and not registry.quantizer(quantizer.name).needs_activations
    if asked == "none" or (asked == "auto" and not (rounds and measured)):
        return None
    if rounds and precision in ("int8", "int4"):
        from zoo.smoothing.plan import plan_smoothing

        part = registry.architecture(architecture.type)
        if plan_smoothing(record(part, architecture, target.head_multiple)) is not None:
            return SmoothingPin()
    if asked == "always":
        raise UsageError(
            f"--smoothing always: target {request.target!r} at {precision} rounds no inputs of this architecture's "
            "weights that could be rescaled; leave it out"
        )
    return None


def smoothed(layout: Layout, seen: Checkpoint, beside: Checkpoint) -> Checkpoint:
    """Rescale a checkpoint as its recipe says.

    Args:
        seen: what the build reads, in order.
        beside: the same checkpoint for what is read out of turn.
    """
    pin = layout.recipe.smoothing
    if pin is None or layout.program is None:
        return seen
    from zoo.smoothing.checkpoint import SmoothedCheckpoint
    from zoo.smoothing.plan import plan_smoothing

    plan = plan_smoothing(layout.program)
    return seen if plan is None else SmoothedCheckpoint(seen, plan, pin, beside)


@contextmanager
def steady_products(recipe: Recipe) -> Iterator[None]:
    """Let products of matrices be computed by the thread that asks for them: the same sums with any number of them."""
    if recipe.smoothing is None:
        yield
        return
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1, "blas"):
        yield
