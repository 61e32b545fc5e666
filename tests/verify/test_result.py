"""Judging figures against the limits of a precision."""

from __future__ import annotations

import pytest

from zoo.declarations.recipe import PRECISIONS
from zoo.verify.result import Figures, Greedy, Place, judge
from zoo.verify.tolerances import TOLERANCES

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
        {"kl_mean": 1.0},
        {"kl_mean": None},
        {"places": (Place(name="embedding", carried=0.9, own=0.9),)},
        {"places": (Place(name="embedding", carried=None, own=None),)},
        {"top1_but_ties": 0.5},
        {"perplexity": 20.0},
        {"perplexity": None},
        {"greedy": (Greedy(prompt="one", tokens=4, equal=0, worst=9.0),)},
    ],
    ids=str,
)
@pytest.mark.parametrize("precision", PRECISIONS)
def test_one_figure_past_its_limit_fails(precision, fields) -> None:
    verdict = judge(changed(**fields), TOLERANCES[precision])
    assert not verdict.passed
    assert sum(not check.passed for check in verdict.checks) == 1


def test_logits_are_held_to_a_limit_where_weights_are_not_rounded() -> None:
    apart = changed(logit_difference=0.5)
    assert not judge(apart, TOLERANCES["fp32"]).passed
    assert not judge(apart, TOLERANCES["fp16"]).passed
    assert judge(apart, TOLERANCES["int8"]).passed


def test_what_a_short_text_leaves_to_chance_is_no_failure() -> None:
    off = {"perplexity": 10.08}
    assert not judge(changed(**off), TOLERANCES["int8"]).passed
    assert judge(changed(**off, perplexity_chance=0.004), TOLERANCES["int8"]).passed


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
