"""What a body costs follows from its bytes, and it holds up nobody while it is read."""

from __future__ import annotations

import io
import json
import resource
import threading
import time
from typing import Any

import pytest
from zoo_server import body as bodies
from zoo_server.body import parse
from zoo_server.connection import most_connections
from zoo_server.errors import ApiError
from zoo_server.logs import BURST, Log
from zoo_server.schemas import ChatRequest, CompletionRequest

from tests.server.serving import post, serving


def filled(head: str, piece: str, tail: str, count: int) -> bytes:
    return (head + ",".join([piece] * count) + tail).encode()


COMPLETION, CHAT = '{"model":"m","prompt":', '{"model":"m","messages":'
MANY: dict[str, tuple[Any, str, str, str]] = {
    "lists as prompts": (CompletionRequest, COMPLETION + "[", "[]", "]}"),
    "objects as prompts": (CompletionRequest, COMPLETION + "[", "{}", "]}"),
    "nulls as prompts": (CompletionRequest, COMPLETION + "[", "null", "]}"),
    "texts among ids": (CompletionRequest, COMPLETION + "[1,", '"a"', "]}"),
    "ids that are too large": (CompletionRequest, COMPLETION + "[", "99999999999", "]}"),
    "lists of wrong lists": (CompletionRequest, COMPLETION + "[", '["a"]', "]}"),
    "wrong messages": (ChatRequest, CHAT + "[", "{}", "]}"),
    "wrong parts": (ChatRequest, CHAT + '[{"role":"user","content":[', "[]", "]}]}"),
    "wrong calls": (ChatRequest, CHAT + '[{"role":"assistant","content":"x","tool_calls":[', "{}", "]}]}"),
    "wrong tools": (ChatRequest, CHAT + '[{"role":"user","content":"x"}],"tools":[', "{}", "]}"),
    "wrong stops": (CompletionRequest, COMPLETION + '"x","stop":[', "1", "]}"),
    "wrong stop tokens": (CompletionRequest, COMPLETION + '"x","stop_token_ids":[', '"1"', "]}"),
    "wrong choices": (CompletionRequest, COMPLETION + '"x","guided_choice":[', "[]", "]}"),
    "what is ignored": (CompletionRequest, COMPLETION + '"x","metadata":[', "[]", "]}"),
    "nested lists": (CompletionRequest, COMPLETION + '"x","user":[', "[[],[]]", "]}"),
}


@pytest.mark.attack("s01_pydantic_amplification.py", "a body of half a million wrong values")
@pytest.mark.parametrize("name", MANY)
def test_many_wrong_values_are_one_short_error(name) -> None:
    kind, head, piece, tail = MANY[name]
    raw = filled(head, piece, tail, 1_500_000 // (len(piece) + 1))
    before, begun = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    with pytest.raises(ApiError) as caught:
        parse(raw, kind)
    assert caught.value.status == 400
    assert len(caught.value.content()) < 1000
    assert time.process_time() - begun < 1.5
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 80 * 1024


def test_what_is_legitimate_and_large_passes() -> None:
    text = ", [{".join(["word"] * 600_000)
    assert parse(json.dumps({"model": "m", "prompt": text}).encode(), CompletionRequest).prompt == text
    tricky = '"\\[{,\\"' * 200_000
    assert parse(json.dumps({"model": "m", "prompt": tricky}).encode(), CompletionRequest).prompt == tricky
    ids = list(range(200_000))
    assert parse(json.dumps({"model": "m", "prompt": ids}).encode(), CompletionRequest).prompt == ids
    turns = [{"role": "user", "content": [{"type": "text", "text": "x"}] * 4}] * 4096
    assert len(parse(json.dumps({"model": "m", "messages": turns}).encode(), ChatRequest).messages) == 4096


@pytest.mark.attack("s02_server_bad_body.py", "large bodies that are wrong, while others ask")
def test_the_server_answers_while_a_large_body_is_read(package, monkeypatch) -> None:
    import httpx2

    with serving([package], threads=1) as served:
        times: list[float] = []
        done = threading.Event()

        def look() -> None:
            while not done.is_set():
                begun = time.perf_counter()
                assert httpx2.get(f"{served.url}/health", timeout=20, verify=False).status_code == 200
                times.append(time.perf_counter() - begun)

        thread = threading.Thread(target=look)
        thread.start()
        for piece in ("[]", "{}", "[1]", '""', "1"):
            raw = filled('{"model":"zoo-tiny","prompt":[', piece, "]}", 3_500_000 // (len(piece) + 1))
            assert post(served, "/v1/completions", raw)[0] == 400
        done.set()
        thread.join()
        assert max(times) < 2.0
        assert served.server.config.app.state.service.arriving.bytes == 0


def test_bytes_are_given_back_whatever_a_body_is(package, monkeypatch) -> None:
    monkeypatch.setattr(bodies, "SMALL", 10)
    with serving([package], threads=1) as served:
        for raw in (
            b"{",
            b"[]",
            b"\xff" * 50,
            b"x" * 100_000,
            json.dumps({"model": "zoo-tiny", "prompt": "a" * 50}).encode(),
        ):
            post(served, "/v1/completions", raw)
        assert served.server.config.app.state.service.arriving.bytes == 0


@pytest.mark.attack("s10_poison_batch.py", "a penalty that makes the logits of a shared batch infinite")
@pytest.mark.parametrize("penalty", [1e-45, 1e-300, 1e-9, 0.009, 101, 1e30])
def test_a_penalty_past_what_numbers_hold_is_a_400(penalty, package, served) -> None:
    body = {"model": "zoo-tiny", "prompt": "hi", "max_tokens": 2, "repetition_penalty": penalty}
    status, _, answer = post(served, "/v1/completions", body)
    assert status == 400
    assert answer["error"]["param"] == "repetition_penalty"


@pytest.mark.attack("s12_fd_flood.py", "more idle connections than descriptors")
def test_connections_over_the_limit_hold_no_descriptors(package) -> None:
    import os

    with serving([package], threads=1, max_connections=5) as served:
        before = len(os.listdir("/proc/self/fd"))
        held = [served.connect() for _ in range(60)]
        time.sleep(1.0)
        # Each has its client's end in this very process; the server's ends are the few that are allowed.
        assert len(os.listdir("/proc/self/fd")) - before <= 60 + 5 + 3
        assert len(served.server.server_state.connections) <= 5
        for one in held:
            one.close()
        time.sleep(0.2)
        assert post(served, "/v1/completions", {"model": "zoo-tiny", "prompt": "a", "max_tokens": 1})[0] == 200


def test_the_limit_leaves_descriptors_for_everything_else(monkeypatch) -> None:
    set_to: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "setrlimit", lambda what, limits: set_to.append(limits))
    cases = [(1024, 1024, 512), (100, 100, 25), (800, 800, 512), (600, 600, 448), (400, 4096, 512)]
    for soft, hard, allowed in cases:
        monkeypatch.setattr(resource, "getrlimit", lambda what, soft=soft, hard=hard: (soft, hard))
        found = most_connections(512, 2, 64)
        assert found == allowed
    assert set_to
    assert all(limits[1] == 4096 for limits in set_to)


@pytest.mark.attack("s12_fd_flood.py", "a flood of events, each a line of the log")
def test_a_flood_is_not_a_flood_of_lines() -> None:
    stream = io.StringIO()
    log = Log(stream)
    for number in range(20_000):
        log.event("connection_cut", reason="too slow", number=number)
        if number % 4000 == 0:
            time.sleep(0.05)
    log.event("listening", url="here")
    log.close()
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert len([line for line in lines if line["event"] == "connection_cut"]) < 2 * BURST
    assert lines[-1]["event"] == "listening"
    assert len(lines) + sum(line.get("dropped_lines", 0) for line in lines) == 20_001
