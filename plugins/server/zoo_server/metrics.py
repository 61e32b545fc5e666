"""What Prometheus scrapes: requests, queue, tokens, TTFT and ITL, the prefix cache, memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry, Counter, Histogram, disable_created_metrics, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from zoo_server.pool import ModelPool

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
FIRST = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
BETWEEN = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.2, 0.5, 1, 2.5)
WHOLE = (0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)


class Metrics:
    """A registry of its own, so that several servers may live in one process."""

    def __init__(self, pool: ModelPool) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # their time means nothing to anyone here
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.requests = Counter(
            "zoo_http_requests", "Requests by route and status", ["route", "status"], registry=self.registry
        )
        self._first = Histogram(
            "zoo_time_to_first_token_seconds", "From a request's submission to its first token", ["model"],
            buckets=FIRST, registry=self.registry,
        )  # fmt: skip
        self._between = Histogram(
            "zoo_inter_token_latency_seconds", "Between two tokens of an answer", ["model"], buckets=BETWEEN,
            registry=self.registry,
        )  # fmt: skip
        self._queued = Histogram(
            "zoo_queue_seconds", "From a request's submission to its slot", ["model"], buckets=FIRST,
            registry=self.registry,
        )  # fmt: skip
        self._whole = Histogram(
            "zoo_answer_seconds", "From a request's submission to its last token", ["model"], buckets=WHOLE,
            registry=self.registry,
        )  # fmt: skip
        self.registry.register(_Pool(pool))

    def observe(self, model: str, ticket: Any) -> dict[str, float]:
        """Count a finished choice.

        Returns:
            Its times for the log, seconds.
        """
        times: dict[str, float] = {}
        if ticket.started is not None:
            times["queue_s"] = ticket.started - ticket.submitted
            self._queued.labels(model).observe(times["queue_s"])
        if ticket.first_token is not None:
            times["ttft_s"] = ticket.first_token - ticket.submitted
            self._first.labels(model).observe(times["ttft_s"])
        between = self._between.labels(model)
        for before, after in pairwise(ticket.token_times):
            between.observe(after - before)
        if ticket.finished is not None:
            self._whole.labels(model).observe(ticket.finished - ticket.submitted)
        return {name: round(seconds, 6) for name, seconds in times.items()}

    def text(self) -> bytes:
        """Write everything in Prometheus' text format."""
        return generate_latest(self.registry)


class _Pool(Collector):
    """What the pool and the schedulers know, read when it is asked for.

    Totals of a model that was unloaded go on where they were, as counters must.
    """

    GAUGES = (
        ("running", "zoo_requests_running", "Sequences in a slot"),
        ("waiting", "zoo_requests_waiting", "Sequences that wait for a slot"),
        ("slots", "zoo_slots", "Sequences that are computed together at most"),
        ("prefix_cache_bytes", "zoo_prefix_cache_bytes", "Bytes of texts that were computed before"),
        ("cache_bytes", "zoo_cache_bytes", "Address space of the slots' KV caches"),
    )
    COUNTERS = (
        ("requests", "zoo_sequences_submitted", "Sequences that were submitted"),
        ("finished", "zoo_sequences_finished", "Sequences that were finished"),
        ("cancelled", "zoo_sequences_cancelled", "Sequences whose client left, or took too long"),
        ("failed", "zoo_sequences_failed", "Sequences that the engine could not finish"),
        ("prompt_tokens", "zoo_prompt_tokens", "Tokens of prompts, those from the prefix cache included"),
        ("cached_tokens", "zoo_cached_tokens", "Tokens of prompts that came from the prefix cache"),
        ("output_tokens", "zoo_output_tokens", "Tokens of answers"),
        ("guessed_tokens", "zoo_guessed_tokens", "Tokens of answers that were guessed right"),
        ("steps", "zoo_steps", "Steps of the model"),
    )

    def __init__(self, pool: ModelPool) -> None:
        self._pool = pool

    def describe(self) -> Iterable[Any]:
        return ()

    def collect(self) -> Iterator[Any]:
        """Read the state of every loaded model."""
        loaded = GaugeMetricFamily("zoo_model_loaded", "1 while the model is loaded", labels=["model"])
        running = dict(self._pool.running)
        for model in self._pool.past:
            loaded.add_metric([model], float(model in running))
        yield loaded
        yield GaugeMetricFamily(
            "zoo_models_memory_bytes", "What the loaded models may take", value=float(self._pool.memory_used)
        )
        stats = {name: one.scheduler.stats() for name, one in running.items()}
        for field, name, text in self.GAUGES:
            gauge = GaugeMetricFamily(name, text, labels=["model"])
            for model, now in stats.items():
                gauge.add_metric([model], float(getattr(now, field)))
            yield gauge
        for field, name, text in self.COUNTERS:
            counter = CounterMetricFamily(name, text, labels=["model"])
            for model, before in self._pool.past.items():
                parts = [*before, stats.get(model)]
                counter.add_metric([model], sum(float(getattr(part, field)) for part in parts if part is not None))
            yield counter
