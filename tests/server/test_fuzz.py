"""Bodies that are nearly right: whatever comes in, an answer or an error in OpenAI's shape goes out."""

from __future__ import annotations

import json
import random
from typing import Any

from tests.server.serving import post
from tests.server.test_bad_input import error_of
from tests.server.test_protection import idle, wait_for

ASKS: dict[str, dict[str, Any]] = {
    "/v1/completions": {
        "model": "zoo-tiny", "prompt": "Once upon a time", "max_tokens": 2, "temperature": 0.5, "top_p": 0.9, "n": 2,
        "stop": ["a", "b"], "seed": 3, "logprobs": 2, "stream": False, "echo": False, "top_k": 5, "user": "me",
    },
    "/v1/chat/completions": {
        "model": "zoo-tiny", "messages": [{"role": "system", "content": "a"}, {"role": "user", "content": "Hi"}],
        "max_completion_tokens": 2, "temperature": 1, "logprobs": True, "top_logprobs": 3, "stream": True,
        "stream_options": {"include_usage": True}, "stop": "x", "ignore_eos": False,
    },
}  # fmt: skip
ODD: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2**31, 2**63, 10**30, 0.0, -0.0, 1e-320, 1.5, 1e308, "", "a", "x" * 3000, "\u0000",
    "\U0001f41d", "\ud800", [], [[]], {}, [None], [0], [-1], ["a"] * 40, {"a": {"b": []}}, {"role": "user"},
    [{"role": "user", "content": ""}], {"type": "text"}, "assistant", "zoo-tiny", "../zoo-tiny", "NaN",
)  # fmt: skip


def mutate(value: Any, drawn: random.Random) -> Any:
    """Change a value somewhere."""
    if isinstance(value, dict) and value and drawn.random() < 0.8:
        changed, key = dict(value), drawn.choice(list(value))
        choice = drawn.random()
        if choice < 0.15:
            del changed[key]
        elif choice < 0.25:
            changed[drawn.choice(("Model", "max_token", "", "x" * 200, "tools", "logit_bias"))] = drawn.choice(ODD)
        else:
            changed[key] = mutate(changed[key], drawn)
        return changed
    if isinstance(value, list) and value and drawn.random() < 0.6:
        changed_list, at = list(value), drawn.randrange(len(value))
        changed_list[at] = mutate(changed_list[at], drawn)
        return changed_list
    return drawn.choice(ODD)


def spoil(raw: bytes, drawn: random.Random) -> bytes:
    """Change bytes."""
    spoiled = bytearray(raw)
    for _ in range(drawn.randrange(1, 4)):
        at = drawn.randrange(len(spoiled))
        spoiled[at : at + drawn.randrange(3)] = drawn.randbytes(drawn.randrange(3))
    return bytes(spoiled)


def test_bodies_that_are_nearly_right(served) -> None:
    drawn, statuses = random.Random(8), set()
    for _ in range(200):
        path, body = drawn.choice(list(ASKS.items()))
        for _ in range(drawn.randrange(1, 3)):
            body = mutate(body, drawn)
        raw = json.dumps(body).encode()
        if drawn.random() < 0.2:
            raw = spoil(raw, drawn)
        found = post(served, path, raw)
        statuses.add(found[0])
        if found[0] != 200:
            error = error_of(found)
            assert error["status"] in (400, 404), (raw, error)
    assert statuses >= {200, 400}
    wait_for(lambda: idle(served))
    assert served.events("error") == []
