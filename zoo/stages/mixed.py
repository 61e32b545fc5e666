"""``--mixed auto``: measure what each weight loses, and spell out in the recipe which ones get more bits.

The recipe that comes out states its choice like one made by hand: option ``keep`` of the quantizer, weight → precision.
What was measured is kept as a report under the hash of the recipe without the choice, so that another budget, or the
same build again, measures nothing anew and comes to the same choice.
"""

from __future__ import annotations

import fnmatch
import math
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from glob import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from zoo.contracts import Parameter, reads_weights
from zoo.declarations.base import Value
from zoo.declarations.recipe import Precision, Recipe
from zoo.errors import UsageError, ZooError
from zoo.home import zoo_home
from zoo.package.account import account
from zoo.package.layout import Layout, lay_out
from zoo.registry import Registry
from zoo.reports import keep_report, recipe_report, reports
from zoo.smoothing.checkpoint import smoothed
from zoo.sources.content import countable, settle, tensor_digests
from zoo.sources.named import beneath
from zoo.stages.resolve import Request, Resolved

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


MORE: dict[Precision, Precision] = {"int4": "int8", "int8": "fp16"}
"""What weights that need it get instead."""


BUDGET = "10%"
"""How much larger a package may become unless stated."""


class WeightChoice(Value):
    """One weight, and what was chosen for it."""

    name: str
    precision: Precision
    nbytes: int
    """As chosen."""
    low_kl: float
    """Predicted KL(original ‖ stored so) of a position at the build's own precision, nats."""
    high_kl: float
    """The same at the higher precision."""
    gain: float
    """What the higher precision gains, in nats a gigabyte: what the choice goes by, save that it must fit."""


class MixedChoice(Value):
    """What ``--mixed auto`` chose, the weights that gain most from more bits first."""

    low: Precision
    high: Precision
    weights: tuple[WeightChoice, ...]
    bits_per_weight: float
    budget: float
    """Bits per weight that were allowed."""
    predicted_kl: float
    """Sum over the weights as chosen, nats a position; rounding to nearest, so a calibrated quantizer loses less."""
    plain_kl: float
    """The same of the build without ``--mixed``."""
    plain_bits_per_weight: float


@dataclass(frozen=True)
class _Candidates:
    """The weights to choose for, in the three ways to store all of them."""

    plain: Layout
    low: Layout
    high: Layout
    names: list[str]

    @classmethod
    def find(cls, registry: Registry, request: Request, recipe: Recipe) -> _Candidates:
        """List the weights whose precision nobody chose.

        Raises:
            UsageError: a quantizer that keeps no weights at a precision of their own.
        """
        name = recipe.quantizer.name
        if recipe.precision not in MORE or "keep" not in recipe.quantizer.options:
            raise UsageError(
                f"--mixed auto needs a quantizer with the option keep, and -p {' or '.join(MORE)}; "
                f"{name!r} makes {recipe.precision}"
            )
        plain = lay_out(recipe, registry)
        if plain.target.view == "checkpoint":
            raise UsageError(
                f"--mixed auto measures a graph's weights; target {recipe.target.name!r} stores the checkpoint's own "
                "tensors; state their precisions by --quantizer-option 'keep={...}'"
            )
        fixed = {option.removesuffix("_bits") for option in request.quantizer_options if option.endswith("_bits")}
        kept: Mapping[str, Any] = cast("Mapping[str, Any]", recipe.quantizer.options["keep"])

        def free(parameter: Parameter) -> bool:
            role = "head" if parameter.role == "lm_head" else parameter.kind
            return parameter.kind in ("linear", "embedding") and role not in fixed and not _matches(parameter, kept)

        names = [placed.parameter.name for placed in plain.placed if free(placed.parameter)]
        if not names:
            raise UsageError("--mixed auto has no choice: the options state the precision of every weight")
        low, high = (
            lay_out(with_keep(recipe, dict.fromkeys(map(escape, names), precision)), registry)
            for precision in (recipe.precision, MORE[recipe.precision])
        )
        return cls(plain, low, high, names)


def _matches(parameter: Parameter, kept: Mapping[str, Any]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in kept for name in (parameter.name, parameter.role))


def with_keep(recipe: Recipe, more: Mapping[str, Precision]) -> Recipe:
    """Add to what a recipe's quantizer keeps at a precision of its own; what is stated already counts first."""
    kept = cast("dict[str, Any]", recipe.quantizer.options["keep"])
    options = {**recipe.quantizer.options, "keep": {**kept, **more}}
    return recipe.model_copy(update={"quantizer": recipe.quantizer.model_copy(update={"options": options})})


def mixed(
    registry: Registry,
    request: Request,
    resolved: Resolved,
    tokens: NDArray[np.int32] | None,
    *,
    device: str = "cpu",
    planning: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Resolved, MixedChoice | None]:
    """Choose the weights that get more bits, where the request asks for it.

    Args:
        tokens: the calibration samples, (samples, length).
        planning: measure nothing; a choice needs what an earlier build measured.
        progress: called with how many of how many passes over a layer are done.

    Returns:
        The recipe with the choice in it, and the choice; the recipe as it was and None where nothing is asked for.

    Raises:
        UsageError: a budget that cannot be kept, or a plan before anything was measured.
        ZooError: the weights cannot be measured.
    """
    if request.mixed is None:
        return resolved, None
    recipe, checkpoint = resolved.recipe, resolved.checkpoint
    if checkpoint is None or not reads_weights(registry.target(request.target), recipe.target.options):
        raise UsageError(f"target {request.target!r} stores no weights, so --mixed does not apply")
    candidates = _Candidates.find(registry, request, recipe)
    costs = _measured(recipe, candidates.names)
    if costs is None:
        if planning or tokens is None:
            raise UsageError("--mixed auto measures weights, which --dry-run does not read; build once, then plan")
        account(candidates.low, checkpoint)
        costs = _measure(candidates, recipe, resolved, tokens, device, progress)
    choice = choose_precisions(candidates, recipe.precision, costs, request.mixed_budget)
    plain = candidates.plain.schemes
    low, high = candidates.low.schemes, candidates.high.schemes
    keep: dict[str, Precision] = {}
    chosen = {weight.name: weight.precision for weight in choice.weights}
    for name in candidates.names:
        if (high if chosen[name] == choice.high else low)[name] != plain[name]:
            keep[escape(name)] = chosen[name]
    recipe = with_keep(recipe, keep)
    if not registry.quantizer(recipe.quantizer.name).needs_activations:
        recipe = recipe.model_copy(update={"calibration": None})  # the choice is all that the data decided
    return replace(resolved, recipe=type(recipe).model_validate(recipe.model_dump())), choice


def choose_precisions(
    found: _Candidates, low_name: Precision, costs: Mapping[str, tuple[float, float]], budget: str | None
) -> MixedChoice:
    """Fill the budget with the weights that gain most."""
    from zoo.calibration.budget import choose

    names = found.names
    bytes_low, bytes_high = (_sizes(layout) for layout in (found.low, found.high))
    total = sum(_sizes(found.low).values())
    weights = found.plain.parameters
    plain = sum(_sizes(found.plain).values())
    allowed = parse_budget(budget, plain * 8 / weights) * weights / 8
    if total > allowed + 0.5:
        raise UsageError(
            f"--mixed-budget {budget}: everything at {low_name} takes {total * 8 / weights:.4g} bits per weight already"
        )
    extra = [bytes_high[name] - bytes_low[name] for name in names]
    gains = [costs[name][0] - costs[name][1] for name in names]
    raised = choose(gains, [max(1, cost) for cost in extra], math.floor(allowed + 0.5) - total)
    high = MORE[low_name]
    schemes = found.plain.schemes
    rows = [
        WeightChoice(
            name=name,
            precision=high if place in raised else low_name,
            nbytes=bytes_high[name] if place in raised else bytes_low[name],
            low_kl=costs[name][0],
            high_kl=costs[name][1],
            gain=gains[place] / max(1, extra[place]) * 1e9,
        )
        for place, name in enumerate(names)
    ]
    return MixedChoice(
        low=low_name,
        high=high,
        weights=tuple(sorted(rows, key=lambda one: -one.gain)),
        bits_per_weight=round((total + sum(extra[name] for name in raised)) * 8 / weights, 4),
        budget=round(allowed * 8 / weights, 4),
        predicted_kl=sum(row.high_kl if row.precision == high else row.low_kl for row in rows),
        plain_kl=sum(costs[name][1 if schemes[name] == found.high.schemes[name] else 0] for name in names),
        plain_bits_per_weight=round(plain * 8 / weights, 4),
    )


def parse_budget(text: str | None, plain: float) -> float:
    """Read a budget as bits per weight: a number, or a percentage more than the build without ``--mixed``.

    Args:
        text: ``5.2``, ``10%``; None is ``BUDGET``.
        plain: bits per weight of that build.
    """
    text = text or BUDGET
    try:
        number = float(text.removesuffix("%"))
    except ValueError:
        number = math.nan
    if not math.isfinite(number) or (number <= 0 and not text.endswith("%")) or number < -99:
        raise UsageError(f"--mixed-budget is bits per weight (5.2) or a percentage more (10%), not {text!r}")
    return plain * (1 + number / 100) if text.endswith("%") else number


def _sizes(layout: Layout) -> dict[str, int]:
    """Bytes of every stored weight."""
    return {placed.parameter.name: sum(array.nbytes for array in placed.arrays) for placed in layout.placed}


def _measured(recipe: Recipe, names: list[str]) -> dict[str, tuple[float, float]] | None:
    """Look for what an earlier call measured."""
    for report in reversed(reports(recipe.hash, "sensitivity")):
        weights = cast("dict[str, Any]", report.measured.get("weights", {}))
        try:
            return {name: (float(weights[name]["low"]), float(weights[name]["high"])) for name in names}
        except (KeyError, TypeError, ValueError):
            continue
    return None


def _measure(
    found: _Candidates,
    recipe: Recipe,
    resolved: Resolved,
    tokens: NDArray[np.int32],
    device: str,
    progress: Callable[[int, int], None] | None,
) -> dict[str, tuple[float, float]]:
    """Measure every weight at both precisions, and keep it as a report."""
    from zoo.calibration.sensitivity import measure, used

    assert resolved.checkpoint is not None
    low, high = found.low.schemes, found.high.schemes
    home = zoo_home()
    try:
        home.mkdir(parents=True, exist_ok=True)
        folder = tempfile.TemporaryDirectory(prefix="sensitivity-", dir=home)
    except OSError as error:
        raise ZooError(f"{home}: {error.strerror or error}") from None
    with folder as place:
        costs = measure(
            found.low,
            smoothed(found.low, resolved.checkpoint),
            tokens,
            {name: (low[name], high[name]) for name in found.names},
            Path(place),
            device=device,
            progress=progress,
        )
    settings = {"low": recipe.precision, "high": MORE[recipe.precision], "tokens": int(used(tokens).size)}
    # From now on the recipe's digest stands for these weights here, also where nothing is built of them.
    checkpoint = resolved.checkpoint
    settle(checkpoint, recipe.weights.digest, tensor_digests(checkpoint, countable(beneath(checkpoint).tensors)))
    measured: Any = {name: {"low": one[0], "high": one[1]} for name, one in costs.items()}
    keep_report(recipe_report("sensitivity", recipe, settings, {"weights": measured}, libraries=("torch", "numpy")))
    return {name: (one[0], one[1]) for name, one in costs.items()}
