"""Log probabilities in both shapes, held against the engine's own logits."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from zoo_server.logprobs import Offsets, chat_logprobs, completion_logprobs
from zoo_server.tokens import TokenTable

from zoo.engine.logprobs import TokenLogprob

PROMPT = "Once upon a time"


def expected(engine: Any, count: int) -> list[tuple[int, float, list[int]]]:
    """Compute each greedy token, its log probability, and all tokens by probability."""
    generation = engine.generate(PROMPT, max_new_tokens=count)
    found = []
    for at, token in enumerate(generation.token_ids):
        logits = engine.logits([*generation.prompt_ids, *generation.token_ids[:at]], 1)[0].astype(np.float64)
        logs = logits - logits.max() - math.log(np.exp(logits - logits.max()).sum())
        found.append((token, float(logs[token]), np.argsort(-logs)[:5].tolist()))
    return found


@pytest.mark.parametrize("stream", [False, True])
def test_completions(client, engine, stream) -> None:
    wanted = expected(engine, 10)
    found = client.completions.create(
        model="zoo-tiny", prompt=PROMPT, max_tokens=10, temperature=0, logprobs=3, stream=stream
    )
    chunks = list(found) if stream else [found]
    parts = [one.choices[0].logprobs for one in chunks if one.choices[0].logprobs]
    tokens = [token for one in parts for token in one.tokens]
    assert "".join(tokens) == "".join(one.choices[0].text for one in chunks)
    values = [value for one in parts for value in one.token_logprobs]
    assert values == pytest.approx([value for _, value, _ in wanted], abs=0.02)
    tops = [top for one in parts for top in one.top_logprobs]
    assert all(len(top) == 3 and max(top, key=top.get) == token for top, token in zip(tops, tokens, strict=True))
    offsets = [offset for one in parts for offset in one.text_offset]
    assert offsets == [sum(map(len, tokens[:at])) for at in range(len(tokens))]


@pytest.mark.parametrize("stream", [False, True])
def test_chat(client, engine, stream) -> None:
    found = client.chat.completions.create(
        model="zoo-tiny", messages=[{"role": "user", "content": "Hi"}], max_tokens=6, temperature=0, logprobs=True,
        top_logprobs=2, stream=stream,
    )  # fmt: skip
    chunks = list(found) if stream else [found]
    content = [one for chunk in chunks if chunk.choices[0].logprobs for one in chunk.choices[0].logprobs.content]
    said = [one.choices[0].delta if stream else one.choices[0].message for one in chunks]
    text = "".join(one.content or "" for one in said)
    assert "".join(one.token for one in content) == text
    for one in content:
        assert bytes(one.bytes).decode() == one.token
        assert one.logprob <= 0
        assert [top.logprob for top in one.top_logprobs] == sorted(
            (top.logprob for top in one.top_logprobs), reverse=True
        )
        assert one.top_logprobs[0].token == one.token


def test_none_are_sent_unless_asked_for(client) -> None:
    found = client.completions.create(model="zoo-tiny", prompt=PROMPT, max_tokens=3, temperature=0)
    assert found.choices[0].logprobs is None
    found = client.completions.create(model="zoo-tiny", prompt=PROMPT, max_tokens=3, temperature=0, logprobs=0)
    assert found.choices[0].logprobs.top_logprobs == [None] * 3


def test_a_sampled_token_need_not_be_the_likeliest(client) -> None:
    found = client.completions.create(
        model="zoo-tiny",
        prompt=PROMPT,
        max_tokens=20,
        temperature=2,
        seed=3,
        logprobs=2,
        extra_body={"ignore_eos": True},
    )
    logprobs = found.choices[0].logprobs
    assert any(token not in top for token, top in zip(logprobs.tokens, logprobs.top_logprobs, strict=True))
    # Of the model itself, whatever the temperature: OpenAI's are so too.
    assert all(sum(map(math.exp, top.values())) <= 1.001 for top in logprobs.top_logprobs)


def test_half_characters_have_their_bytes_and_the_offset_of_the_whole(engine) -> None:
    text = "A bee 🐝 and “more” é."
    ids = engine.tokenizer.encode(text, special=False)
    tokens, entries = TokenTable(engine), [TokenLogprob(token, -1.0) for token in ids]
    content = chat_logprobs(entries, tokens)["content"]
    assert b"".join(bytes(entry["bytes"]) for entry in content).decode() == text
    halves = [entry["token"] for entry in content if entry["token"].startswith("bytes:")]
    assert halves, "the small vocabulary has no token for a whole bee"
    assert all("\\x" in half and "token_id" not in half for half in halves)

    offsets = completion_logprobs(entries, Offsets(), tokens)["text_offset"]
    ends = np.cumsum([len(entry["bytes"]) for entry in content])
    whole = text.encode()
    for offset, end, entry in zip(offsets, ends, content, strict=True):
        before = whole[: end - len(entry["bytes"])]
        assert offset == len(before.decode("utf-8", "ignore"))
        if not entry["token"].startswith("bytes:"):
            assert text[offset:].startswith(entry["token"])


def test_special_tokens_take_no_room_in_the_text(engine) -> None:
    ids = [*engine.tokenizer.encode("One", special=False), 2, *engine.tokenizer.encode(" two", special=False)]
    found = completion_logprobs([TokenLogprob(token, -1.0) for token in ids], Offsets(), TokenTable(engine))
    assert found["text_offset"][-1] == len("One two") - len(found["tokens"][-1])
