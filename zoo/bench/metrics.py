"""Timelines → figures, by the definitions and names that the field uses.

For one request with n output tokens, due at time a, its tokens at t1 … tn, complete at e:

- TTFT, time to first token: t1 - a. First pieces without text do not count.
- TPOT, time per output token: (tn - t1) / (n - 1). The first token is left out: it belongs to the prompt.
- ITL, inter-token latency: each t(i+1) - t(i). Every gap counts once, so long answers weigh more than in TPOT.
- E2EL, end-to-end latency: e - a.

These are the definitions of NVIDIA's LLM benchmarking guide (docs.nvidia.com/nim/benchmarking/llm, "Metrics") and of
vLLM's ``vllm bench serve``, whose names of figures are used here too; vLLM counts a from the sending, which is the same
wherever no request waits for a place. Percentiles are interpolated linearly, as numpy's and vLLM's.

For a run from the first request's arrival to the last one's end, d seconds: request throughput is completed requests
/ d, output throughput output tokens / d, total token throughput (prompt + output tokens) / d. Decode throughput is the
tokens after each request's first, over the time in which at least one request was between its first and last token:
how fast tokens come while any do, with the prompts that are computed in between.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import pairwise

import numpy as np

from zoo.bench.timeline import Timeline
from zoo.declarations.base import Value


class Figures(Value):
    """What a run came to. Latencies in milliseconds, throughputs per second; absent where nothing could be measured."""

    completed: int
    failed: int
    retried: int
    """Times that a request was turned away and sent again."""
    duration: float
    """Seconds from the first arrival to the last answer's end."""
    total_input_tokens: int
    total_output_tokens: int
    request_throughput: float
    output_throughput: float
    total_token_throughput: float
    decode_throughput: float | None
    mean_ttft_ms: float | None
    median_ttft_ms: float | None
    p99_ttft_ms: float | None
    mean_tpot_ms: float | None
    median_tpot_ms: float | None
    p99_tpot_ms: float | None
    mean_itl_ms: float | None
    median_itl_ms: float | None
    p99_itl_ms: float | None
    mean_e2el_ms: float | None
    median_e2el_ms: float | None
    p99_e2el_ms: float | None
    errors: dict[str, int]
    """Why requests failed, and how many did."""


LATENCIES = ("ttft", "tpot", "itl", "e2el")
STATISTICS = ("mean", "median", "p99")


def summarize(runs: Sequence[Sequence[Timeline]]) -> Figures:
    """Sum up the timelines of one run, or of several of the same workload: their durations add up."""
    done = [[request for request in run if request.error is None and request.token_times] for run in runs]
    every = [request for run in done for request in run]
    failed = [request for run in runs for request in run if request.error is not None or not request.token_times]
    duration = sum(
        max(request.finished for request in run) - min(request.arrival for request in run) for run in done if run
    )
    tokens_in = sum(request.prompt_tokens for request in every)
    tokens_out = sum(request.output_tokens for request in every)

    def rate(count: int) -> float:
        return count / duration if duration > 0 else 0.0

    latencies = {
        "ttft": [request.token_times[0] - request.arrival for request in every],
        "tpot": [tpot for request in every if (tpot := time_per_output_token(request)) is not None],
        "itl": [after - before for request in every for before, after in pairwise(request.token_times)],
        "e2el": [request.finished - request.arrival for request in every],
    }
    return Figures(
        completed=len(every),
        failed=len(failed),
        retried=sum(request.retries for run in runs for request in run),
        duration=duration,
        total_input_tokens=tokens_in,
        total_output_tokens=tokens_out,
        request_throughput=rate(len(every)),
        output_throughput=rate(tokens_out),
        total_token_throughput=rate(tokens_in + tokens_out),
        decode_throughput=_decode_throughput(done),
        errors=dict(Counter(request.error or "the answer holds no token" for request in failed)),
        **{
            f"{statistic}_{name}_ms": value
            for name, seconds in latencies.items()
            for statistic, value in zip(STATISTICS, _statistics(seconds), strict=True)
        },
    )


def time_per_output_token(one: Timeline) -> float | None:
    """Seconds for each token after the first; None where there is none."""
    later = one.output_tokens - 1
    return (one.token_times[-1] - one.token_times[0]) / later if later > 0 and len(one.token_times) > 1 else None


def _statistics(seconds: Sequence[float]) -> tuple[float | None, float | None, float | None]:
    if not seconds:
        return None, None, None
    milliseconds = np.asarray(seconds, np.float64) * 1000
    middle, last = np.percentile(milliseconds, (50, 99))
    return float(milliseconds.mean()), float(middle), float(last)


def _decode_throughput(runs: Iterable[Sequence[Timeline]]) -> float | None:
    tokens, seconds = 0, 0.0
    for run in runs:
        decoding = [request for request in run if len(request.token_times) > 1]
        tokens += sum(request.output_tokens - 1 for request in decoding)
        seconds += covered((request.token_times[0], request.token_times[-1]) for request in decoding)
    return tokens / seconds if seconds > 0 else None


def covered(spans: Iterable[tuple[float, float]]) -> float:
    """Measure the time that lies in at least one of some spans."""
    total, reached = 0.0, float("-inf")
    for start, end in sorted(spans):
        total += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return total
