"""Keys, names, limits, clients that leave or do not read: what one client does costs the others nothing."""

from __future__ import annotations

import json
import socket
import threading
import time
from typing import Any

import numpy as np
import pytest

from tests.server.serving import Served, post, read_all, serving
from tests.server.test_bad_input import complete, error_of

PROMPT = "Once upon a time"
LONG = {"max_tokens": 480, "ignore_eos": True}


def wait_for(what: Any, seconds: float = 10.0) -> None:
    """Wait until a condition holds."""
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it did not come to hold"
        time.sleep(0.01)


def idle(served: Served) -> bool:
    return all(one.open == 0 for one in served.pool.admissions.values()) and all(
        one.users == 0 and not one.scheduler.stats().running for one in served.pool.running.values()
    )


def ask_raw(served: Served, receive_buffer: int | None = None, **fields: Any) -> socket.socket:
    """Send a request over a bare socket and leave the answer unread."""
    body = json.dumps({"model": "zoo-tiny", "prompt": PROMPT, "temperature": 0, **fields}).encode()
    connection = socket.socket()
    if receive_buffer is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    connection.settimeout(30)
    connection.connect(("127.0.0.1", served.port))
    connection.sendall(
        b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        + f"Content-Length: {len(body)}\r\n\r\n".encode()
        + body
    )
    return connection


def test_a_key_is_asked_for_everywhere_but_at_the_health_check(package) -> None:
    import httpx2
    import openai

    with serving([package], threads=1, api_key="a-secret") as served:
        assert httpx2.get(f"{served.url}/health").json() == {"status": "ok"}
        for path in ("/v1/models", "/metrics", "/v1/completions", "/openapi.json", "/nothing"):
            found = httpx2.get(served.url + path)
            error = error_of((found.status_code, dict(found.headers), found.json()))
            assert (error["status"], error["code"]) == (401, "missing_api_key")
            assert found.headers["www-authenticate"] == "Bearer"
        for wrong in ("a-secre", "a-secret2", "A-SECRET", "x" * 5000, "é".encode().decode("latin-1")):
            headers = {"authorization": b"Bearer " + wrong.encode("latin-1")}
            found = httpx2.get(f"{served.url}/v1/models", headers=headers)
            assert (found.status_code, found.json()["error"]["code"]) == (401, "invalid_api_key")
        for scheme in (b"Basic a-secret", b"a-secret", b"Bearer"):
            assert httpx2.get(f"{served.url}/v1/models", headers={"authorization": scheme}).status_code == 401
        with pytest.raises(openai.AuthenticationError):
            openai.OpenAI(base_url=f"{served.url}/v1", api_key="wrong", max_retries=0).models.list()
        right = openai.OpenAI(base_url=f"{served.url}/v1", api_key="a-secret", max_retries=0)
        assert right.models.list().data[0].id == "zoo-tiny"
        assert "a-secret" not in served.lines.getvalue()


@pytest.mark.attack("s08_http.py", "a web page under a name that was made to resolve to this machine")
def test_a_name_that_was_made_to_resolve_here_is_refused(served) -> None:
    import httpx2

    for host in (
        "evil.example",
        "evil.example:80",
        "127.0.0.1.evil.example",
        "",
        "[::1]evil.example",
        "localhost:evil.example",
    ):
        found = httpx2.get(f"{served.url}/v1/models", headers={"host": host})
        assert found.status_code == 403, host
        assert "zoo serve --allow-host NAME" in found.json()["error"]["message"]
    for host in ("localhost", f"LOCALHOST:{served.port}", "127.0.0.1", "[::1]:8000", "zoo.localhost:80"):
        assert httpx2.get(f"{served.url}/v1/models", headers={"host": host}).status_code == 200, host


def test_a_name_that_is_let_in(package) -> None:
    import httpx2

    with serving([package], threads=1, allow_host=frozenset({"bees.example"})) as served:
        for host, status in (("bees.example", 200), ("Bees.Example:443", 200), ("a.bees.example", 403)):
            assert httpx2.get(f"{served.url}/v1/models", headers={"host": host}).status_code == status, host


def test_no_page_of_another_site_may_read_answers(served) -> None:
    import httpx2

    found = httpx2.get(f"{served.url}/v1/models", headers={"origin": "http://evil.example"})
    assert not [name for name in found.headers if name.startswith("access-control")]


def test_more_than_fits_is_refused_with_a_time_to_come_back(package) -> None:
    with serving([package], threads=1, slots=1, queue=2) as served:
        connections = [ask_raw(served, **LONG) for _ in range(3)]
        admission = served.pool.admissions["zoo-tiny"]
        wait_for(lambda: admission.open == 3)
        found = complete(served)
        error = error_of(found)
        assert (error["status"], error["type"]) == (429, "rate_limit_error")
        assert 1 <= int(found[1]["retry-after"]) <= 60
        for connection in connections:  # those that were let in are answered
            assert connection.recv(100).startswith(b"HTTP/1.1 200 ")
            connection.close()
        wait_for(lambda: idle(served))
        assert complete(served)[0] == 200
        assert error_of(complete(served, n=4))["param"] == "n"  # it could never fit


@pytest.mark.attack("s13_cancel.py", "clients that leave in the middle of an answer")
@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_frees_its_slot(package, stream) -> None:
    with serving([package], threads=1, slots=1, queue=8) as served:
        complete(served)
        waiting = [ask_raw(served, stream=stream, **LONG) for _ in range(6)]
        wait_for(lambda: served.pool.admissions["zoo-tiny"].open == 6)
        for connection in waiting:
            connection.close()
        started = time.monotonic()
        wait_for(lambda: idle(served))
        assert complete(served)[0] == 200
        assert time.monotonic() - started < 5
        wait_for(lambda: len(served.events("request")) == 8)
        outcomes = [one.get("outcome") for one in served.events("request")]
        assert outcomes.count("disconnected") >= 5  # the first may have been answered before it left


def test_a_client_that_reads_nothing_holds_up_nobody_and_is_cut_off(package, engine) -> None:
    wanted = engine.generate(PROMPT, max_new_tokens=24).text
    with serving([package], threads=1, send_timeout=0.3, slots=4) as served:
        complete(served)
        slow = [ask_raw(served, 4096, stream=True, n=8, logprobs=20, **LONG) for _ in range(2)]
        wait_for(lambda: served.pool.admissions["zoo-tiny"].open == 16)
        _, _, found = complete(served, max_tokens=24)
        assert found["choices"][0]["text"] == wanted
        wait_for(lambda: idle(served), 30)  # they were answered, though they read nothing
        wait_for(lambda: len(served.server.server_state.connections) <= 1, 10)
        for connection in slow:
            with pytest.raises(ConnectionError):
                read_all(connection)
            connection.close()
        wait_for(lambda: len(served.events("connection_cut")) == 2)


def test_a_reader_that_is_slow_gets_all_of_it(package, engine) -> None:
    wanted = engine.generate(PROMPT, max_new_tokens=480, ignore_eos=True).text
    with serving([package], threads=1, send_timeout=2) as served:
        connection = ask_raw(served, 4096, stream=True, **LONG)
        parts = []
        while not parts or b"data: [DONE]" not in b"".join(parts[-3:]):
            parts.append(connection.recv(2048))
            time.sleep(0.005)
        connection.close()
    events = [line[6:] for line in b"".join(parts).split(b"\n") if line.startswith(b"data: {")]
    assert "".join(one["choices"][0]["text"] for one in map(json.loads, events)) == wanted


@pytest.mark.attack("s11_conns.py", "heads and bodies that come a byte at a time")
def test_a_request_that_does_not_arrive_is_given_up(package) -> None:
    head = b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    with serving([package], threads=1, receive_timeout=0.3) as served:
        with served.connect() as silent, served.connect() as half_a_head, served.connect() as half_a_body:
            half_a_head.sendall(head)
            half_a_body.sendall(head + b"Content-Length: 100\r\n\r\n{")
            assert b" 408 " in read_all(half_a_body).split(b"\r\n")[0]
            for connection in (silent, half_a_head):
                with pytest.raises(ConnectionError):
                    connection.recv(100) or (_ for _ in ()).throw(ConnectionError)
        assert complete(served)[0] == 200
        wait_for(lambda: len(served.events("connection_cut")) == 2)


def test_an_answer_that_takes_too_long_is_ended(package) -> None:
    with serving([package], threads=1, slots=1, timeout=0.15) as served:
        served.pool.admissions["zoo-tiny"]._seconds = 0.0
        first = complete(served)  # loading may take longer than that
        assert first[0] in (200, 504)
        wait_for(lambda: "zoo-tiny" in served.pool.running)
        error = error_of(complete(served, n=16, **LONG))
        assert (error["status"], error["code"]) == (504, "timeout")
        with ask_raw(served, stream=True, n=16, **LONG) as connection:
            text = b""
            while b"[DONE]" not in text:
                text += connection.recv(65536)
        assert b'"code":"timeout"' in text or b'"code": "timeout"' in text
        wait_for(lambda: idle(served))


def test_connections_over_the_limit_are_told_so(package) -> None:
    with serving([package], threads=1, max_connections=3) as served:
        held = [served.connect() for _ in range(3)]
        wait_for(lambda: len(served.server.server_state.connections) == 3)
        with served.connect() as one:
            one.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
            answer = read_all(one)
        assert answer.startswith(b"HTTP/1.1 429 ")
        assert b"too_many_connections" in answer
        held[0].close()
        wait_for(lambda: len(served.server.server_state.connections) == 2)
        assert post(served, "/v1/completions", {"model": "zoo-tiny", "prompt": "a", "max_tokens": 1})[0] == 200
        for one in held:
            one.close()


def test_the_log_says_nothing_of_what_was_asked(package) -> None:
    secret = "a very private matter"
    for told in (False, True):
        with serving([package], threads=1, log_prompts=told) as served:
            complete(served, prompt=secret)
            post(
                served, "/v1/chat/completions", {"model": "zoo-tiny", "messages": [{"role": "user", "content": secret}]}
            )
            complete(served, prompt=secret, max_tokens=-1)
            post(served, f"/v1/{secret.replace(' ', '-')}?key={secret.replace(' ', '-')}", {})
            wait_for(lambda: len(served.events("request")) == 4)
            text = served.lines.getvalue()
        assert (secret in text) is told
        assert secret.replace(" ", "-") not in text
        assert str(package.parent) not in text
        events = served.events("request")
        assert [one["status"] for one in events] == [200, 200, 400, 404]
        assert events[0]["completion_tokens"] == 2
        assert all(one["id"].startswith("req_") and one["seconds"] > 0 for one in events)


def settled(engine, prompt: str) -> str:
    """The answer up to the first token that is as good as another one, which among others may be that one."""
    ids = engine.generate(prompt, max_new_tokens=20).token_ids
    logits = np.sort(engine.logits([*engine.encode(prompt), *ids], len(ids) + 1)[:-1])
    close = np.flatnonzero(logits[:, -1] - logits[:, -2] <= engine.batching_effect)
    return str(engine.tokenizer.decode(ids[: close[0]] if len(close) else ids))


def test_many_at_once_all_get_their_own_answer(served, engine) -> None:
    prompts = [PROMPT, "The sky is", "The opposite of hot is", "My dog", "In the morning", "She said"]
    wanted = {prompt: settled(engine, prompt) for prompt in prompts}
    assert len(set(wanted.values())) == len(prompts)
    wrong: list[Any] = []

    def ask(index: int) -> None:
        prompt = prompts[index % len(prompts)]
        status, _, found = complete(served, prompt=prompt, max_tokens=20)
        if status != 200 or not found["choices"][0]["text"].startswith(wanted[prompt]):
            wrong.append((prompt, found))

    threads = [threading.Thread(target=ask, args=(index,)) for index in range(24)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert not wrong


@pytest.mark.attack("s11_conns.py", "many large bodies that never end")
def test_bodies_that_arrive_together_take_bounded_memory(package) -> None:
    head = b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    with serving([package], threads=1, max_body=100_000) as served:
        arriving = served.server.config.app.state.service.arriving
        held = [served.connect() for _ in range(16)]
        for one in held:
            one.sendall(head + b"Content-Length: 100000\r\n\r\n" + b" " * 99_999)
        wait_for(lambda: arriving.bytes == 16 * 99_999)
        body = {"model": "zoo-tiny", "prompt": "a" * 100, "max_tokens": 1}
        assert error_of(post(served, "/v1/completions", body))["status"] == 429
        for one in held:
            one.close()
        wait_for(lambda: arriving.bytes == 0)
        assert post(served, "/v1/completions", body)[0] == 200
