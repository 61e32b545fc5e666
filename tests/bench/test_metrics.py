"""Figures of made-up timelines, worked out by hand."""

from __future__ import annotations

import pytest

from zoo.bench.metrics import covered, summarize, time_per_output_token
from zoo.bench.timeline import Timeline


def timeline(arrival: float, *token_times: float, prompt: int = 10, tokens: int | None = None, **more) -> Timeline:
    count = len(token_times) if tokens is None else tokens
    return Timeline(arrival, prompt, count, list(token_times), more.pop("finished", token_times[-1]), **more)


def test_one_request() -> None:
    figures = summarize([[timeline(1.0, 1.5, 1.6, 1.8, 2.0, finished=2.25)]])
    assert (figures.completed, figures.failed, figures.duration) == (1, 0, pytest.approx(1.25))
    assert figures.mean_ttft_ms == pytest.approx(500)
    assert figures.mean_tpot_ms == pytest.approx(500 / 3)  # the first token is not counted
    assert figures.median_itl_ms == pytest.approx(200)
    assert figures.mean_itl_ms == pytest.approx(500 / 3)
    assert figures.mean_e2el_ms == pytest.approx(1250)
    assert figures.request_throughput == pytest.approx(0.8)
    assert figures.output_throughput == pytest.approx(4 / 1.25)
    assert figures.total_token_throughput == pytest.approx(14 / 1.25)
    assert figures.decode_throughput == pytest.approx(3 / 0.5)


def test_percentiles_are_interpolated_over_requests() -> None:
    run = [timeline(0.0, 0.001 * (one + 1)) for one in range(100)]
    figures = summarize([run])
    assert figures.mean_ttft_ms == pytest.approx(50.5)
    assert figures.median_ttft_ms == pytest.approx(50.5)
    assert figures.p99_ttft_ms == pytest.approx(99.01)


def test_an_answer_of_one_token_has_no_time_per_token() -> None:
    figures = summarize([[timeline(0.0, 0.5)]])
    assert figures.mean_tpot_ms is None
    assert figures.mean_itl_ms is None
    assert figures.decode_throughput is None
    assert figures.mean_ttft_ms == pytest.approx(500)


def test_several_tokens_in_a_piece_count_in_tpot_and_not_in_itl() -> None:
    one = timeline(0.0, 1.0, 2.0, tokens=5)
    assert time_per_output_token(one) == pytest.approx(0.25)
    assert summarize([[one]]).mean_itl_ms == pytest.approx(1000)


def test_failed_requests_are_counted_and_measured_nowhere() -> None:
    broken = timeline(0.0, 0.1, 9.0, error="the connection broke")
    empty = Timeline(0.0, finished=5.0)
    figures = summarize(
        [[timeline(0.0, 1.0, 2.0), broken, empty, timeline(0.0, 0.2, 9.0, error="the connection broke")]]
    )
    assert (figures.completed, figures.failed) == (1, 3)
    assert figures.errors == {"the connection broke": 2, "the answer holds no token": 1}
    assert figures.duration == pytest.approx(2.0)
    assert figures.total_output_tokens == 2


def test_nothing_completed_is_zeros_and_no_latency() -> None:
    figures = summarize([[timeline(0.0, 1.0, error="no")], []])
    assert (figures.completed, figures.output_throughput, figures.p99_e2el_ms) == (0, 0.0, None)


def test_rounds_add_up_their_durations() -> None:
    figures = summarize([[timeline(0.0, 1.0, 2.0)], [timeline(100.0, 101.0, 104.0)]])
    assert figures.duration == pytest.approx(6.0)
    assert figures.output_throughput == pytest.approx(4 / 6)
    assert figures.decode_throughput == pytest.approx(2 / 4)


def test_decode_throughput_counts_overlapping_answers_once() -> None:
    figures = summarize([[timeline(0.0, 1.0, 2.0, 3.0), timeline(0.0, 2.0, 3.0, 4.0), timeline(0.0, 9.0, 10.0)]])
    assert figures.decode_throughput == pytest.approx(5 / 4)


@pytest.mark.parametrize(
    ("spans", "expected"),
    [([], 0), ([(0, 1), (2, 3)], 2), ([(0, 5), (1, 2)], 5), ([(3, 4), (0, 3.5)], 4), ([(1, 1)], 0)],
)
def test_covered_time(spans, expected) -> None:
    assert covered(spans) == expected
