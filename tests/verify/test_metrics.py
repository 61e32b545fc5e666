"""Figures over logits: known distributions in, known numbers out."""

from __future__ import annotations

import math

import numpy as np
import pytest

from zoo.verify.metrics import Continuation, LogitFigures, TextFigures, log_softmax, relative_error, root_ratio


def logits_of(*rows: list[float]) -> np.ndarray:
    """Logits whose softmax is the given rows."""
    return np.log(np.array(rows)).astype(np.float32)


def test_kl_and_agreement_of_known_distributions() -> None:
    figures = LogitFigures()
    figures.add(logits_of([0.5, 0.5], [0.9, 0.1]), logits_of([0.25, 0.75], [0.9, 0.1]), tie=0.0)
    expected = 0.5 * math.log(0.5 / 0.25) + 0.5 * math.log(0.5 / 0.75)
    assert figures.kl_worst == pytest.approx(expected, rel=1e-5)
    assert figures.kl_mean == pytest.approx(expected / 2, rel=1e-5)
    assert figures.positions == 2
    assert figures.largest_difference == pytest.approx(math.log(2), rel=1e-5)


def test_near_ties_count_as_the_same_token() -> None:
    reference, package = logits_of([0.34, 0.33, 0.33]), logits_of([0.30, 0.40, 0.30])
    margin = math.log(0.34 / 0.33)
    for tie, agreement in ((margin * 0.9, 0.0), (margin * 1.1, 1.0)):
        figures = LogitFigures()
        figures.add(reference, package, tie)
        assert (figures.top1, figures.top1_but_ties) == (0.0, agreement)


def test_adding_in_slices_is_adding_at_once() -> None:
    rng = np.random.default_rng(3)
    reference, package = rng.standard_normal((2, 9, 17)).astype(np.float32)
    whole, parts = LogitFigures(), LogitFigures()
    whole.add(reference, package, 0.1)
    for start in range(0, 9, 4):
        parts.add(reference[start : start + 4], package[start : start + 4], 0.1)
    for name in ("top1", "top1_but_ties", "kl_mean", "kl_worst", "difference", "deviation"):
        assert getattr(whole, name) == pytest.approx(getattr(parts, name)), name


def test_what_is_not_finite_is_counted_and_never_agrees() -> None:
    reference = logits_of([0.5, 0.5], [0.9, 0.1])
    package = reference.copy()
    package[0, 1] = np.nan
    figures = LogitFigures()
    figures.add(reference, package, 1.0)
    assert (figures.not_finite, figures.top1) == (1, 0.5)
    assert math.isfinite(figures.kl_mean)


def test_equal_logits_differ_by_nothing_even_where_all_are_zero() -> None:
    figures = LogitFigures()
    zeros = np.zeros((3, 5), np.float32)
    figures.add(zeros, zeros, 0.0)
    assert (figures.top1, figures.kl_mean, figures.difference) == (1.0, 0.0, 0.0)
    assert root_ratio(*relative_error(zeros, zeros)) == 0.0
    assert root_ratio(*relative_error(zeros + 1, zeros)) == math.inf


def test_relative_error_is_the_root_of_mean_squares() -> None:
    wanted = np.full((4, 8), 2.0, np.float32)
    assert root_ratio(*relative_error(wanted * np.float32(1.5), wanted)) == pytest.approx(0.5)


def test_perplexity_of_a_uniform_guess_is_the_number_of_tokens() -> None:
    text = TextFigures()
    uniform = np.zeros((6, 10), np.float32)
    text.add(uniform, uniform, np.arange(6))
    assert text.perplexity(text.reference) == pytest.approx(10)
    assert text.chance == 0


def test_chance_is_the_standard_error_of_the_difference() -> None:
    reference = logits_of(*[[0.5, 0.5]] * 100)
    package = logits_of(*[[0.6, 0.4], [0.4, 0.6]] * 50)
    text = TextFigures()
    text.add(reference, package, np.zeros(100, np.int64))
    differences = log_softmax(package)[:, 0] - log_softmax(reference)[:, 0]
    assert text.chance == pytest.approx(differences.std(ddof=1) / 10, rel=1e-6)


def test_a_continuation_is_equal_up_to_its_first_other_token() -> None:
    reference = logits_of([0.9, 0.1], [0.2, 0.8], [0.9, 0.1])
    continuation = Continuation("one")
    continuation.add(reference[:1], np.array([0]))
    continuation.add(reference[1:], np.array([0, 0]))
    assert (continuation.tokens, continuation.equal) == (3, 1)
    assert continuation.worst == pytest.approx(math.log(4), rel=1e-5)
