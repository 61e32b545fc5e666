"""Wrong requests: each gets its status, one line in OpenAI's shape, and leaves the server as it was."""

from __future__ import annotations

import gzip
import json
from typing import Any

import pytest

from tests.server.serving import post, read_all, serving

PROMPT = "Once upon a time"


def complete(served: Any, **fields: Any) -> tuple[int, dict[str, str], Any]:
    body = {"model": "zoo-tiny", "prompt": PROMPT, "max_tokens": 2, "temperature": 0, **fields}
    return post(served, "/v1/completions", {name: value for name, value in body.items() if value != "absent"})


def chat(served: Any, **fields: Any) -> tuple[int, dict[str, str], Any]:
    body = {"model": "zoo-tiny", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 2, **fields}
    return post(served, "/v1/chat/completions", {name: value for name, value in body.items() if value != "absent"})


def error_of(found: tuple[int, dict[str, str], Any]) -> dict[str, Any]:
    """Take the error out of an answer; its shape is OpenAI's, and its message one line."""
    status, headers, body = found
    assert headers["content-type"].startswith("application/json")
    assert set(body) == {"error"}
    assert set(body["error"]) == {"message", "type", "param", "code"}
    assert body["error"]["message"]
    assert "\n" not in body["error"]["message"]
    assert len(body["error"]["message"]) < 600
    return {"status": status, **body["error"]}


@pytest.mark.attack("s09_json.py", "bodies that are not JSON, or JSON of odd values")
@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b'{"model": "zoo-tiny", "prompt": "a", }', "not JSON"),
        (b"\xff\xfe{}", "not JSON"),
        (b"[" * 40_000, "nested too deeply"),
        (b"[" * 100_000, "more than 50000 lists"),
        (b'{"model": "zoo-tiny", "prompt": "\\ud800"}', "not JSON"),
        (b'{"model": "zoo-tiny", "prompt": "a", "temperature": NaN}', ""),
        (b'{"model": "zoo-tiny", "prompt": "a", "temperature": 1e999}', ""),
        (b'{"model": "zoo-tiny", "prompt": "a", "seed": ' + b"9" * 5000 + b"}", ""),
        (b"[]", ""),
        (b"null", ""),
        (b'"text"', ""),
    ],
)
def test_what_is_no_request(served, raw, said) -> None:
    error = error_of(post(served, "/v1/completions", raw))
    assert error["status"] == 400
    assert error["type"] == "invalid_request_error"
    assert said in error["message"]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"model": "absent"}, "model"),
        ({"prompt": "absent"}, "prompt"),
        ({"model": ""}, "model"),
        ({"model": 3}, "model"),
        ({"model": "x" * 10_000}, "model"),
        ({"prompt": None}, "prompt"),
        ({"prompt": []}, "prompt"),
        ({"prompt": [[]]}, "prompt"),
        ({"prompt": [1, "a"]}, "prompt"),
        ({"prompt": [-1]}, "prompt"),
        ({"prompt": [10**9]}, "prompt"),
        ({"prompt": [10**30]}, "prompt"),
        ({"prompt": {"text": "a"}}, "prompt"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"min_p": 1.5}, "min_p"),
        ({"presence_penalty": 2.5}, "presence_penalty"),
        ({"frequency_penalty": -3}, "frequency_penalty"),
        ({"logit_bias": {"9999": 1}}, "logit_bias"),
        ({"logit_bias": {"the": 1}}, "logit_bias"),
        ({"logit_bias": {"-1": 1}}, "logit_bias"),
        ({"logit_bias": {"5": 101}}, "logit_bias"),
        ({"logit_bias": [5]}, "logit_bias"),
        ({"include_stop_str_in_output": 1}, "include_stop_str_in_output"),
        ({"max_tokens": -1}, "max_tokens"),
        ({"max_tokens": 2**31}, "max_tokens"),
        ({"max_tokens": 10**40}, "max_tokens"),
        ({"max_tokens": "5"}, "max_tokens"),
        ({"max_tokens": 1.5}, "max_tokens"),
        ({"max_tokens": True}, "max_tokens"),
        ({"temperature": -0.1}, "temperature"),
        ({"temperature": 2.1}, "temperature"),
        ({"temperature": "hot"}, "temperature"),
        ({"top_p": 0}, "top_p"),
        ({"top_p": 1.01}, "top_p"),
        ({"top_k": -2}, "top_k"),
        ({"repetition_penalty": 0}, "repetition_penalty"),
        ({"seed": 2**63}, "seed"),
        ({"seed": -(2**63) - 1}, "seed"),
        ({"n": 0}, "n"),
        ({"n": -3}, "n"),
        ({"n": 17}, "n"),
        ({"n": 10**12}, "n"),
        ({"prompt": ["a"] * 17}, "n"),
        ({"stop": ""}, "stop"),
        ({"stop": ["a", ""]}, "stop"),
        ({"stop": ["x"] * 5000}, "stop"),
        ({"stop": "x" * 2000}, "stop"),
        ({"stop": [3]}, "stop"),
        ({"stop_token_ids": [-1]}, "stop_token_ids"),
        ({"stop_token_ids": list(range(100))}, "stop_token_ids"),
        ({"logprobs": -1}, "logprobs"),
        ({"logprobs": 21}, "logprobs"),
        ({"stream": "yes"}, "stream"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"best_of": 4}, "best_of"),
    ],
)
def test_a_field_that_is_wrong(served, fields, param) -> None:
    error = error_of(complete(served, **fields))
    assert error["status"] == 400
    assert (error["param"] or "").split(".")[0] == param
    assert error["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    "fields",
    [
        {"messages": []},
        {"messages": "Hi"},
        {"messages": [{"role": "user"}, 3]},
        {"messages": [{"role": "wizard", "content": "Hi"}]},
        {"messages": [{"content": "Hi"}]},
        {"messages": [{"role": "user", "content": 3}]},
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://a/b"}}]}]},
        {"messages": [{"role": "user", "content": "Hi", "extra": 1}]},
        {"messages": [{"role": "user", "content": "a"}] * 5000},
        {"top_logprobs": 3},
        {"logprobs": True, "top_logprobs": 99},
        {"max_completion_tokens": 0},
        {"tools": [{"type": "function", "function": {"name": "f"}}]},
        {"tools": [{"type": "web_search"}]},
        {"tools": {"type": "function"}},
        {"tool_choice": "required"},
        {"tool_choice": {"type": "function", "function": {"name": "f"}}},
        {"tool_choice": "always"},
        {"chat_template_kwargs": {"messages": []}},
        {"chat_template_kwargs": {"a b": 1}},
        {"reasoning_effort": "high"},
        {"reasoning_effort": "frantic"},
        {"messages": [{"role": "user", "content": "Hi"}, {"role": "tool", "content": "a", "tool_call_id": "x"}]},
        {"messages": [{"role": "tool", "content": "a"}]},
        {"functions": [{"name": "f"}]},
        {"response_format": {"type": "xml"}},
        {"response_format": "json_object"},
        {"response_format": {"type": "json_schema"}},
        {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": [1]}}},
    ],
)
def test_a_conversation_that_is_wrong(served, fields) -> None:
    error = error_of(chat(served, **fields))
    assert error["status"] == 400
    assert error["type"] == "invalid_request_error"


def test_a_field_that_nobody_knows_offers_the_nearest(served) -> None:
    error = error_of(complete(served, max_token=5))
    assert (error["status"], error["param"]) == (400, "max_token")
    assert "did you mean max_tokens" in error["message"]


def test_an_unlike_field_is_told_where_the_known_ones_are(served) -> None:
    error = error_of(complete(served, frobnicate=5))
    assert error["message"] == "unknown parameter 'frobnicate'; /openapi.json lists the known ones"


@pytest.mark.parametrize("prompt", [3, {"text": "a"}, [1, "a"], [[]]])
def test_a_prompt_that_is_none_says_what_one_is(served, prompt) -> None:
    error = error_of(complete(served, prompt=prompt))
    assert error["param"] == "prompt"
    assert "a text, a list of texts, a list of token ids" in error["message"]


@pytest.mark.parametrize(
    ("part", "said"),
    [
        (
            {"type": "image_url", "image_url": {"url": "data:,"}},
            "images (a part of type 'image_url') are not supported",
        ),
        ({"type": "input_audio", "input_audio": {}}, "part of type 'input_audio' is not supported"),
        ({"type": "file", "file": {}}, "files (a part of type 'file') are not supported"),
        ({"type": "text"}, "a part of type 'text' has no 'text' that is a text"),
        ({"text": "Hi"}, "a part of a message's content is {'type': 'text', 'text': …}"),
    ],
)
def test_a_part_that_is_no_text_is_named(served, part, said) -> None:
    error = error_of(chat(served, messages=[{"role": "user", "content": [part]}]))
    assert error["param"] == "messages.0.content"
    assert said in error["message"]


def test_a_compressed_body_is_called_so(served) -> None:
    raw = gzip.compress(json.dumps({"model": "zoo-tiny", "prompt": "a"}).encode())
    for headers in ({"content_encoding": "gzip"}, {}):
        error = error_of(post(served, "/v1/completions", raw, **headers))
        assert (error["status"], error["code"]) == (415, "unsupported_encoding")
        assert "the body is compressed (gzip)" in error["message"]


def test_what_keeps_books_in_a_message_is_passed_over(served) -> None:
    """Answers come back as clients dump them."""
    answer = {
        "role": "assistant", "content": "Hello.", "annotations": [], "refusal": None, "tool_calls": None, "audio": None,
        "function_call": None, "reasoning_content": "Hm.", "id": "msg_1",
    }  # fmt: skip
    asked = {"role": "user", "content": [{"type": "text", "text": "Hi", "cache_control": {"type": "ephemeral"}}]}
    call = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": "{}"}, "index": 0}
    tool = {"role": "tool", "content": "21 degrees"}
    for messages in (
        [asked, answer, asked],
        [asked, {**answer, "tool_calls": []}, asked],
        [asked, {**answer, "content": None, "tool_calls": [call]}, tool, asked],
        [asked, {**answer, "content": None, "tool_calls": [call]}, {**tool, "tool_call_id": "c1"}, asked],
    ):
        assert chat(served, messages=messages)[0] == 200


def test_a_field_of_a_message_that_nobody_knows(served) -> None:
    error = error_of(chat(served, messages=[{"role": "user", "content": "Hi", "contents": "Hi"}]))
    assert (error["status"], error["param"]) == (400, "messages.0.contents")
    assert "did you mean content" in error["message"]


def test_head_is_answered_wherever_get_is(served) -> None:
    import httpx2

    for path in ("/", "/health", "/v1/models", "/v1/models/zoo-tiny", "/metrics"):
        got, head = httpx2.get(served.url + path), httpx2.head(served.url + path)
        assert (head.status_code, head.content) == (200, b"")
        assert head.headers["content-type"] == got.headers["content-type"]
    assert httpx2.head(f"{served.url}/v1/completions").status_code == 405


def test_fields_that_ask_for_nothing_are_no_mistake(served) -> None:
    fields = {"presence_penalty": 0, "frequency_penalty": 0.0, "logit_bias": None, "user": "me", "best_of": 1}
    assert complete(served, **fields)[0] == 200
    assert chat(served, tools=[], response_format={"type": "text"}, store=False, metadata={"a": "b"})[0] == 200


def test_a_prompt_over_the_context(served, engine) -> None:
    for prompt in ("word " * 600, "a" * 200_000, [5] * 512):
        error = error_of(complete(served, prompt=prompt))
        assert (error["status"], error["code"], error["param"]) == (400, "context_length_exceeded", "prompt")
    error = error_of(chat(served, messages=[{"role": "user", "content": "word " * 600}]))
    assert (error["status"], error["code"], error["param"]) == (400, "context_length_exceeded", "messages")


def test_an_answer_over_the_context(served, engine) -> None:
    prompt = len(engine.encode(PROMPT))
    error = error_of(complete(served, max_tokens=512 - prompt + 1))
    assert (error["status"], error["code"], error["param"]) == (400, "context_length_exceeded", "max_tokens")
    assert str(prompt) in error["message"]
    assert complete(served, max_tokens=512 - prompt)[0] == 200


def test_limits_of_prompt_and_output(package) -> None:
    with serving([package], threads=1, max_prompt_tokens=8, max_output_tokens=4) as served:
        assert complete(served, prompt=[5] * 8, max_tokens=4)[0] == 200
        assert error_of(complete(served, prompt=[5] * 9))["code"] == "context_length_exceeded"
        error = error_of(complete(served, max_tokens=5))
        assert (error["status"], error["param"]) == (400, "max_tokens")
        _, _, found = chat(served, messages=[{"role": "user", "content": "a"}], max_tokens="absent")
        assert found["usage"]["completion_tokens"] <= 4
        status, _, found = complete(served, prompt=[5], max_tokens="absent", ignore_eos=True)  # 16 by default
        assert (status, found["usage"]["completion_tokens"]) == (200, 4)


def test_bodies_over_the_limit(package) -> None:
    with serving([package], threads=1, max_body=1000) as served:
        small = json.dumps({"model": "zoo-tiny", "prompt": "a", "max_tokens": 1}).encode()
        assert post(served, "/v1/completions", small + b" " * (1000 - len(small)))[0] == 200
        for size in (1001, 100_000, 5_000_000):
            error = error_of(post(served, "/v1/completions", b" " * size))
            assert (error["status"], error["code"]) == (413, "body_too_large")
        with served.connect() as socket:  # no length stated
            socket.sendall(
                b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                b"Transfer-Encoding: chunked\r\n\r\n" + (b"400\r\n" + b" " * 1024 + b"\r\n") * 4
            )
            assert b" 413 " in socket.recv(4096).split(b"\r\n")[0]
        assert post(served, "/v1/completions", small)[0] == 200


def test_what_is_not_json_by_its_own_word(served) -> None:
    # A browser sends such a body to any site without asking.
    error = error_of(post(served, "/v1/completions", {"model": "zoo-tiny", "prompt": "a"}, content_type="text/plain"))
    assert error["status"] == 415


def test_addresses_and_methods(served) -> None:
    import httpx2

    for method, path, status in (
        ("GET", "/v1/nothing", 404), ("GET", "/v1/completions", 405), ("DELETE", "/v1/models", 405),
        ("GET", "/../../etc/passwd", 404), ("GET", "/v1/models/%2e%2e%2f%2e%2e%2fetc", 404), ("TRACE", "/", 404),
    ):  # fmt: skip
        found = httpx2.request(method, served.url + path)
        if method == "TRACE":
            assert found.status_code in (404, 405)
            continue
        assert error_of((found.status_code, dict(found.headers), found.json()))["status"] == status


@pytest.mark.attack("s08_http.py", "what is not HTTP")
def test_what_is_no_http(served) -> None:
    greeting_of_tls = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 50 + b"\r\n\r\n"
    for raw in (greeting_of_tls, b"GET\r\n\r\n", b"A" * 100_000):
        with served.connect() as socket:
            try:
                socket.sendall(raw)
                answer = read_all(socket)
            except ConnectionError:
                continue
            assert answer.startswith(b"HTTP/1.1 400 ")
            assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["code"] == "invalid_http"
    assert complete(served)[0] == 200


def test_the_server_is_as_it_was(served) -> None:
    """Last in the file: all of the above left no place taken and no error behind."""
    assert complete(served)[0] == 200
    assert all(one.open == 0 for one in served.pool.admissions.values())
    assert all(one.users == 0 for one in served.pool.running.values())
    assert served.events("error") == []
