"""Log probabilities of prompts: what lm-evaluation-harness' ``local-completions`` scores through the server."""

from __future__ import annotations

from typing import Any

import pytest

from tests.server.serving import post
from zoo.engine.logprobs import token_logprob
from zoo.evaluation.likelihood import Continuation, score

CONTEXT = "The farmer and his dog went to the market to sell a cow. " * 3
OPTIONS = (" Then they came home.", " The sky", " é 🐝", " and")


def ask(served: Any, **fields: Any) -> dict[str, Any]:
    body = {"model": "zoo-tiny", "temperature": 0, "max_tokens": 1, "logprobs": 1, "echo": True, **fields}
    status, _, answer = post(served, "/v1/completions", body)
    assert status == 200, answer
    return answer


def test_it_scores_as_an_evaluation_in_process(served, engine) -> None:
    harness = pytest.importorskip("lm_eval.models.openai_completions").LocalCompletionsAPI
    tokenizer = engine.tokenizer
    contexts = [tokenizer.encode(text) for text in (CONTEXT, "Once", "")]
    asked = [
        Continuation(tuple(context), tuple(tokenizer.encode(option, special=False)))
        for context in contexts
        for option in OPTIONS
    ]
    wanted = dict(score(engine.session, asked))
    found = []
    for continuation in asked:  # one by one, as the harness does by default, and all together as its batches are
        tokens, length = [*continuation.context, *continuation.ids], len(continuation.context)
        found += harness.parse_logprobs(ask(served, prompt=[tokens]), [tokens], [length])
    prompts = [[*continuation.context, *continuation.ids] for continuation in asked]
    together = harness.parse_logprobs(
        ask(served, prompt=prompts), prompts, [len(continuation.context) for continuation in asked]
    )
    for at in range(len(asked)):
        for logprob, greedy in (found[at], together[at]):
            assert logprob == pytest.approx(wanted[at].logprob, abs=1e-5)
            assert greedy == wanted[at].greedy


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("prompt", ["Once upon a time", "A bee 🐝 said"])
def test_the_prompts_tokens_come_first(client, engine, prompt, stream) -> None:
    found = client.completions.create(
        model="zoo-tiny", prompt=prompt, max_tokens=4, temperature=0, echo=True, logprobs=2, stream=stream
    )
    parts = list(found) if stream else [found]
    text = "".join(part.choices[0].text for part in parts)
    logprobs = [part.choices[0].logprobs for part in parts if part.choices[0].logprobs]
    tokens = [token for one in logprobs for token in one.tokens]
    values = [value for one in logprobs for value in one.token_logprobs]
    tops = [top for one in logprobs for top in one.top_logprobs]
    offsets = [offset for one in logprobs for offset in one.text_offset]
    ids = engine.encode(prompt)
    assert text.startswith(prompt)
    assert (values[0], tops[0]) == (None, None)
    assert len(tokens) == len(values) == len(tops) == len(offsets) == len(ids) + 4
    for token, offset in zip(tokens[1:], offsets[1:], strict=True):
        assert token.startswith("bytes:") or text[offset:].startswith(token)
    rows = engine.logits(ids)
    for at, value in enumerate(values[1 : len(ids)], 1):
        assert value == pytest.approx(token_logprob(rows[at - 1], ids[at], 0).logprob, abs=0.02)


def test_a_prompt_may_be_scored_without_an_answer(client, engine) -> None:
    found = client.completions.create(
        model="zoo-tiny", prompt="Once upon a time", max_tokens=0, temperature=0, echo=True, logprobs=0
    )
    assert found.choices[0].text == "Once upon a time"
    assert found.usage.completion_tokens == 0
    assert len(found.choices[0].logprobs.tokens) == len(engine.encode("Once upon a time"))
    assert set(found.choices[0].logprobs.top_logprobs) == {None}


def test_a_scored_prompt_takes_nothing_from_the_prefix_cache(client) -> None:
    prompt = "The miller had three sons, a donkey and a cat, and the youngest got the cat. " * 3
    client.completions.create(model="zoo-tiny", prompt=prompt, max_tokens=1)
    scored = client.completions.create(model="zoo-tiny", prompt=prompt, max_tokens=1, echo=True, logprobs=1)
    assert scored.usage.prompt_tokens_details.cached_tokens == 0
