"""Sampling against transformers' logits processors."""

from __future__ import annotations

import math

import numpy as np
import pytest

from zoo.engine.sampling import Sampler, Sampling, candidates, draw
from zoo.errors import UsageError, ZooError


def made_logits(vocab: int, seed: int = 0, spread: float = 3.0) -> np.ndarray:
    return (np.random.default_rng(seed).standard_normal(vocab) * spread).astype(np.float32)


def probabilities(logits: np.ndarray, sampling: Sampling) -> np.ndarray:
    """The distribution that a token is drawn from."""
    ids, weights = candidates(logits, sampling)
    dense = np.zeros(len(logits))
    dense[np.arange(len(logits)) if ids is None else ids] = weights / weights.astype(np.float64).sum()
    return dense


@pytest.mark.parametrize("vocab", [7, 1000, 32000])
@pytest.mark.parametrize("temperature", [0.2, 1.0, 2.5])
@pytest.mark.parametrize(
    ("top_k", "top_p"), [(0, 1.0), (1, 1.0), (5, 1.0), (0, 0.5), (0, 0.999), (40, 0.9), (10**6, 0.3)]
)
def test_the_distribution_is_that_of_transformers(vocab, temperature, top_k, top_p) -> None:
    torch = pytest.importorskip("torch")
    warpers = pytest.importorskip("transformers").generation.logits_process
    logits = made_logits(vocab, seed=vocab + top_k)
    scores = torch.from_numpy(logits)[None]
    scores = warpers.TemperatureLogitsWarper(temperature)(None, scores)
    if top_k:
        scores = warpers.TopKLogitsWarper(top_k)(None, scores)
    if top_p < 1:
        scores = warpers.TopPLogitsWarper(top_p)(None, scores)
    wanted = scores.softmax(-1)[0].numpy()
    found = probabilities(logits, Sampling(temperature, top_k, top_p))
    assert ((found > 0) == (wanted > 0)).mean() > 1 - 2 / vocab  # rounding may move the edge of the nucleus by one
    assert np.abs(found - wanted).max() < 1e-3 * wanted.max()


@pytest.mark.parametrize("penalty", [0.5, 1.1, 3.0])
def test_the_repetition_penalty_is_that_of_transformers(penalty) -> None:
    torch = pytest.importorskip("torch")
    warpers = pytest.importorskip("transformers").generation.logits_process
    logits = made_logits(500)
    seen = [3, 3, 499, 20, 3, 7]
    wanted = warpers.RepetitionPenaltyLogitsProcessor(penalty)(
        torch.tensor([seen]), torch.from_numpy(logits.copy())[None]
    )
    np.testing.assert_allclose(
        Sampler(Sampling(repetition_penalty=penalty), seen).scores(logits), wanted[0].numpy(), rtol=1e-6
    )


def test_the_penalty_counts_prompt_and_answer() -> None:
    logits = np.array([1.0, 1.5, 1.4, 0.0], np.float32)
    sampler = Sampler(Sampling(repetition_penalty=2.0), prompt=[1])
    assert [sampler.choose(logits) for _ in range(3)] == [2, 0, 1]
    assert logits.tolist() == pytest.approx([1.0, 1.5, 1.4, 0.0])


def test_ties_with_the_last_of_the_top_k_stay() -> None:
    ids, _ = candidates(np.array([5, 1, 3, 3, 0], np.float32), Sampling(1.0, top_k=2))
    assert ids is not None
    assert sorted(ids.tolist()) == [0, 2, 3]


def test_a_seed_repeats_and_seeds_differ() -> None:
    logits = made_logits(3000)
    drawn = {}
    for seed in (1, 1, 2):
        sampler = Sampler(Sampling(1.0, seed=seed))
        drawn.setdefault(seed, []).append([sampler.choose(logits) for _ in range(40)])
    assert drawn[1][0] == drawn[1][1] != drawn[2][0]


@pytest.mark.parametrize(
    "sampling", [Sampling(1.0, seed=0), Sampling(0.7, top_k=20, seed=0), Sampling(1.0, 0, 0.8, seed=0)]
)
def test_tokens_come_as_often_as_they_should(sampling) -> None:
    logits = made_logits(1500, spread=2.5)
    sampler = Sampler(sampling)
    drawn = np.bincount([sampler.choose(logits) for _ in range(20000)], minlength=len(logits)) / 20000
    wanted = probabilities(logits, sampling)
    assert not drawn[wanted == 0].any()
    assert np.abs(drawn - wanted).max() < 4 * math.sqrt(wanted.max() / 20000)


@pytest.mark.parametrize("size", [1, 511, 512, 513, 4000])
def test_draw_is_a_search_in_the_running_sum(size) -> None:
    weights = np.random.default_rng(size).random(size, dtype=np.float32)
    weights[::3] = 0
    weights[size // 2] = 1
    edges = np.cumsum(weights, dtype=np.float64)
    for position in np.linspace(0, 1, 97, endpoint=False):
        at = draw(weights, position)
        assert weights[at] > 0
        before = edges[at] - weights[at]
        assert before - 1e-3 <= position * edges[-1] <= edges[at] + 1e-3
    assert weights[draw(weights, 1 - 1e-12)] > 0


@pytest.mark.parametrize("temperature", [1e-300, 1e-30, 1e-6])
def test_a_temperature_near_zero_is_greedy(temperature) -> None:
    logits = made_logits(2000)
    assert Sampler(Sampling(temperature)).choose(logits) == logits.argmax()


@pytest.mark.parametrize("sampling", [Sampling(), Sampling(1.0), Sampling(1.0, top_k=3)])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_logits_that_are_no_numbers_are_refused(sampling, value) -> None:
    logits = made_logits(100)
    logits[17] = value
    with pytest.raises(ZooError, match="not numbers"):
        Sampler(sampling).choose(logits)


@pytest.mark.parametrize(
    "values",
    [
        {"temperature": -0.1}, {"temperature": math.nan}, {"temperature": math.inf}, {"top_k": -1}, {"top_p": 0.0},
        {"top_p": 1.01}, {"top_p": math.nan}, {"repetition_penalty": 0.0}, {"repetition_penalty": math.nan},
        {"seed": -1},
    ],
    ids=str,
)  # fmt: skip
def test_values_that_mean_nothing_are_refused(values) -> None:
    with pytest.raises(UsageError, match="must be"):
        Sampling(**values)


@pytest.mark.parametrize("min_p", [0.01, 0.1, 0.5, 1.0])
@pytest.mark.parametrize(("top_k", "top_p"), [(0, 1.0), (20, 1.0), (0, 0.8), (40, 0.9)])
def test_min_p_is_that_of_transformers(min_p, top_k, top_p) -> None:
    torch = pytest.importorskip("torch")
    warpers = pytest.importorskip("transformers").generation.logits_process
    logits = made_logits(1000, seed=top_k)
    scores = warpers.TemperatureLogitsWarper(1.3)(None, torch.from_numpy(logits)[None])
    if top_k:
        scores = warpers.TopKLogitsWarper(top_k)(None, scores)
    if top_p < 1:
        scores = warpers.TopPLogitsWarper(top_p)(None, scores)
    wanted = warpers.MinPLogitsWarper(min_p)(None, scores).softmax(-1)[0].numpy()
    found = probabilities(logits, Sampling(1.3, top_k, top_p, min_p=min_p))
    assert ((found > 0) == (wanted > 0)).mean() > 0.998
    assert np.abs(found - wanted).max() < 1e-3


def test_presence_and_frequency_count_the_answer_alone() -> None:
    sampler = Sampler(Sampling(presence_penalty=0.5, frequency_penalty=0.25), [2, 2])
    logits = np.array([1.0, 3.0, 2.9, 0.0], np.float32)
    assert [sampler.choose(logits) for _ in range(5)] == [1, 2, 1, 2, 1]
    # OpenAI's formula: less the frequency penalty for each time, and the presence penalty once.
    assert sampler.scores(logits).tolist() == pytest.approx([1.0, 3.0 - 0.5 - 0.75, 2.9 - 0.5 - 0.5, 0.0])
    assert logits.tolist() == pytest.approx([1.0, 3.0, 2.9, 0.0])


def test_a_bias_forces_or_bans_a_token() -> None:
    logits = made_logits(50)
    best, other = int(logits.argmax()), int(logits.argmin())
    for temperature in (0.0, 1.0):
        assert Sampler(Sampling(temperature, logit_bias=((other, 100.0),))).choose(logits) == other
        banned = Sampler(Sampling(temperature, logit_bias=((best, -100.0),), seed=1))
        assert best not in {banned.choose(logits) for _ in range(200)}


@pytest.mark.parametrize("sampling", [Sampling(), Sampling(2.0, seed=1), Sampling(2.0, 7, 0.9, 1.2, 3, 0.01)])
def test_what_is_not_allowed_is_never_chosen(sampling) -> None:
    logits = made_logits(2000, seed=4, spread=8)
    allowed = np.zeros(2000, bool)
    allowed[[3, 900, 1999]] = True
    sampler = Sampler(sampling)
    chosen = {sampler.pick(sampler.scores(logits, allowed), masked=True) for _ in range(300)}
    assert chosen <= {3, 900, 1999}
    assert int(np.where(allowed, logits, -np.inf).argmax()) in chosen


@pytest.mark.parametrize(
    "wrong",
    [
        {"min_p": -0.1}, {"min_p": 1.1}, {"presence_penalty": math.nan}, {"frequency_penalty": math.inf},
        {"logit_bias": ((1, math.nan),)},
    ],
)  # fmt: skip
def test_penalties_that_mean_nothing_are_refused(wrong) -> None:
    with pytest.raises(UsageError):
        Sampling(**wrong)
