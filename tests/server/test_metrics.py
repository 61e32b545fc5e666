"""``/metrics`` as Prometheus reads it."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.server.serving import serving
from tests.server.test_bad_input import complete
from tests.server.test_protection import wait_for


def scrape(served: Any) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    import httpx2
    from prometheus_client.parser import text_string_to_metric_families

    found = httpx2.get(f"{served.url}/metrics")
    assert found.headers["content-type"].startswith("text/plain; version=0.0.4")
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(found.text)
        for sample in family.samples
    }


def test_tokens_times_and_requests_are_counted(package, engine) -> None:
    model = (("model", "zoo-tiny"),)
    prompt = len(engine.encode("Once upon a time"))
    with serving([package], threads=1) as served:
        before = scrape(served)
        assert before["zoo_model_loaded", model] == 0
        assert before["zoo_output_tokens_total", model] == 0
        for _ in range(3):
            assert complete(served, max_tokens=10, n=2, ignore_eos=True)[0] == 200
        assert complete(served, max_tokens=-1)[0] == 400
        found = scrape(served)
        assert found["zoo_model_loaded", model] == 1
        assert found["zoo_output_tokens_total", model] == 60
        assert found["zoo_prompt_tokens_total", model] == 6 * prompt
        assert found["zoo_time_to_first_token_seconds_count", model] == 6
        assert found["zoo_inter_token_latency_seconds_count", model] == 54
        assert found["zoo_answer_seconds_count", model] == 6
        assert found["zoo_requests_running", model] == 0
        assert found["zoo_requests_waiting", model] == 0
        assert 0 < found["zoo_time_to_first_token_seconds_sum", model] < 60
        wait_for(lambda: len(served.events("request")) == 6)
        route = ("route", "/v1/completions")
        assert found["zoo_http_requests_total", (route, ("status", "200"))] == 3
        assert found["zoo_http_requests_total", (route, ("status", "400"))] == 1


def test_totals_go_on_when_a_model_is_unloaded(package) -> None:
    model = (("model", "zoo-tiny"),)
    with serving([package], threads=1) as served:
        complete(served, max_tokens=5, ignore_eos=True)
        assert asyncio.run(_unload(served.pool))
        assert scrape(served)["zoo_output_tokens_total", model] == 5
        complete(served, max_tokens=5, ignore_eos=True)
        assert scrape(served)["zoo_output_tokens_total", model] == 10


async def _unload(pool: Any) -> bool:
    (running,) = pool.running.values()
    await pool._unload(running)
    return not pool.running
