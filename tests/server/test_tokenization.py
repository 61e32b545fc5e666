"""``/tokenize``, ``/detokenize`` and the addresses that say how a server is."""

from __future__ import annotations

import pytest

import zoo
from tests.server.serving import post, serving

MESSAGES = [{"role": "user", "content": "Hi"}]


def test_there_and_back(served, engine) -> None:
    _, _, found = post(served, "/tokenize", {"prompt": "A bee 🐝", "return_token_strs": True})
    assert found["tokens"] == engine.encode("A bee 🐝")
    assert (found["count"], found["max_model_len"]) == (len(found["tokens"]), 512)
    assert found["token_strs"][0] == "<s>"
    _, _, bare = post(served, "/tokenize", {"model": "zoo-tiny", "prompt": "A bee 🐝", "add_special_tokens": False})
    assert bare["tokens"] == found["tokens"][1:]
    assert post(served, "/detokenize", {"tokens": bare["tokens"]})[2] == {"prompt": "A bee 🐝"}
    assert post(served, "/detokenize", {"tokens": []})[2] == {"prompt": ""}
    assert post(served, "/tokenize", {"messages": MESSAGES})[2]["tokens"] == engine.encode_chat(MESSAGES)


@pytest.mark.parametrize(
    ("path", "fields", "param"),
    [
        ("/tokenize", {}, "prompt"),
        ("/tokenize", {"prompt": "a", "messages": MESSAGES}, "prompt"),
        ("/tokenize", {"messages": [{"role": "wizard", "content": "a"}]}, "messages.0.role"),
        ("/tokenize", {"messages": [{"role": "user", "content": "a", "odd": 1}]}, "messages.0.odd"),
        ("/tokenize", {"prompt": "a", "promt": "a"}, "promt"),
        ("/detokenize", {"tokens": [5000]}, "tokens"),
        ("/detokenize", {"tokens": [-1]}, "tokens.0"),
        ("/detokenize", {"tokens": "a"}, "tokens"),
        ("/detokenize", {}, "tokens"),
    ],
)
def test_what_is_refused(served, path, fields, param) -> None:
    status, _, body = post(served, path, fields)
    assert (status, body["error"]["param"]) == (400, param)


def test_an_unknown_model(served) -> None:
    assert post(served, "/tokenize", {"model": "zoo-tine", "prompt": "a"})[0] == 404


def test_how_the_server_is(package) -> None:
    import httpx2

    with serving([package], threads=1, api_key="secret") as served:
        for path in ("/health", "/healthz", "/ping"):
            assert httpx2.get(served.url + path).status_code == 200
        assert httpx2.get(f"{served.url}/version").status_code == 401
        key = {"authorization": "Bearer secret"}
        assert httpx2.get(f"{served.url}/version", headers=key).json() == {"version": zoo.__version__}
