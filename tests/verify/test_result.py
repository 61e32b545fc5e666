"""Judging figures against the limits of a precision."""

from __future__ import annotations

import pytest

from zoo.declarations.recipe import PRECISIONS
from zoo.verify.result import Figures, Greedy, Loss, Place, judge
from zoo.verify.tolerances import TOLERANCES, tolerance_of, usual_losses
from zoo.verify.weights import WeightError

LOSS = Loss(positions=96, whole=0.0, weights=0.0, activations=0.0)

GOOD = Figures(
    positions=100, text_tokens=50, top1=1.0, top1_but_ties=1.0, kl_mean=0.0, kl_worst=0.0, largest_logit_difference=0.0,
    logit_difference=0.0, perplexity_reference=10.0, perplexity=10.0, perplexity_chance=0.0, not_finite=0,
    places=(
        Place(name="embedding", carried=0.0, own=0.0),
        Place(name="layer 0", carried=0.0, own=0.0),
        Place(name="layer 1", carried=0.0, own=0.0),
    ),
    greedy=(Greedy(prompt="one", tokens=4, equal=4, worst=0.0),),
)  # fmt: skip


def changed(**fields) -> Figures:
    return GOOD.model_copy(update=fields)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_equal_sides_pass_in_every_precision(precision) -> None:
    verdict = judge(GOOD, TOLERANCES[precision])
    assert verdict.passed
    assert verdict.diverging is None


@pytest.mark.parametrize(
    "fields",
    [
        {"not_finite": 1},
        {"kl_mean": None},
        {"places": (Place(name="embedding", carried=0.9, own=0.9),)},
        {"places": (Place(name="embedding", carried=None, own=None),)},
        {"places": (Place(name="layer 0", carried=0.0, own=0.0, weights=0.0, arithmetic=0.2),), "loss": LOSS},
        {"weights": (WeightError(name="one", error=0.9, error_limit=0.5, worst=0.0, worst_limit=None),)},
        {"perplexity": None},
        {"greedy": (Greedy(prompt="one", tokens=4, equal=0, worst=9.0, own_worst=9.0),)},
    ],
    ids=str,
)
@pytest.mark.parametrize("precision", PRECISIONS)
def test_what_no_rounding_explains_fails(precision, fields) -> None:
    verdict = judge(changed(**fields), TOLERANCES[precision])
    assert not verdict.passed
    assert any(check.breaks and not check.passed for check in verdict.checks)


@pytest.mark.parametrize("fields", [{"kl_mean": 0.5}, {"top1_but_ties": 0.5}, {"perplexity": 20.0}], ids=str)
def test_loss_fails_only_where_nothing_is_rounded(fields) -> None:
    for precision in ("fp32", "fp16"):
        assert not judge(changed(**fields), TOLERANCES[precision]).passed
    verdict = judge(changed(**fields), TOLERANCES["int4"])
    assert verdict.passed
    assert [check.breaks for check in verdict.checks if not check.passed] == [False]


def test_a_divergence_beyond_what_any_format_loses_fails() -> None:
    assert judge(changed(kl_mean=0.05), TOLERANCES["int8"]).passed
    assert not judge(changed(kl_mean=0.5), TOLERANCES["int8"]).passed
    assert not judge(changed(kl_mean=3.0), TOLERANCES["int4"]).passed


def test_the_limits_of_a_loss_come_from_what_was_measured_on_a_model_of_about_that_width() -> None:
    measured = usual_losses(600)
    worst = max(package.kl_mean for package in measured.of("int4"))
    limit = tolerance_of("int4", 600).kl_mean
    assert worst < limit < 2 * worst
    assert limit < TOLERANCES["int4"].kl_broken
    assert tolerance_of("fp32", 600) == TOLERANCES["fp32"]


def test_logits_are_held_to_a_limit_where_weights_are_not_rounded() -> None:
    apart = changed(logit_difference=0.5)
    assert not judge(apart, TOLERANCES["fp32"]).passed
    assert not judge(apart, TOLERANCES["fp16"]).passed
    assert judge(apart, TOLERANCES["int8"]).passed


def test_what_a_short_text_leaves_to_chance_is_no_failure() -> None:
    off = {"perplexity": 10.08}
    assert not judge(changed(**off), TOLERANCES["fp32"]).passed
    assert judge(changed(**off, perplexity_chance=0.004), TOLERANCES["fp32"]).passed


def test_the_first_layer_with_an_error_of_its_own_is_named() -> None:
    places = (
        Place(name="embedding", carried=0.0, own=0.0),
        Place(name="layer 0", carried=0.01, own=0.01),
        Place(name="layer 1", carried=0.9, own=0.9),
        Place(name="layer 2", carried=0.9, own=0.01),
    )
    assert judge(changed(kl_mean=1.0, places=places), TOLERANCES["int8"]).diverging == "layer 1"
    # Errors that only add up have no layer of their own, but a first one past the limit.
    small = tuple(one.model_copy(update={"own": 0.0}) for one in places)
    assert judge(changed(kl_mean=1.0, places=small), TOLERANCES["int8"]).diverging == "layer 1"
    assert judge(changed(kl_mean=1.0), TOLERANCES["int8"]).diverging is None
