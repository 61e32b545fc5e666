"""``/v1/chat/completions`` as the official client sees it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest
import zoo_tiny

import zoo
from tests.server.serving import serving

MESSAGES = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Who are you?"}]


def ask(client: Any, **options: Any) -> Any:
    given = {"model": "zoo-tiny", "messages": MESSAGES, "temperature": 0, **options}
    return client.chat.completions.create(**given)


def test_an_answer_goes_through_the_template(client, engine) -> None:
    wanted = engine.generate(messages=MESSAGES, max_new_tokens=400)
    found = ask(client)
    assert found.object == "chat.completion"
    assert found.choices[0].message.role == "assistant"
    assert found.choices[0].message.content == wanted.text
    assert found.choices[0].finish_reason == wanted.finish_reason
    assert found.usage.prompt_tokens == len(wanted.prompt_ids)


def test_a_stream_begins_with_the_role(client, engine) -> None:
    wanted = engine.generate(messages=MESSAGES, max_new_tokens=6).text
    chunks = list(ask(client, max_completion_tokens=6, stream=True))
    assert chunks[0].object == "chat.completion.chunk"
    assert chunks[0].choices[0].delta.role == "assistant"
    assert "".join(one.choices[0].delta.content or "" for one in chunks) == wanted
    assert chunks[-1].choices[0].finish_reason == "length"


@pytest.mark.parametrize("messages", [MESSAGES, [{"role": "user", "content": "Hi"}]])
@pytest.mark.parametrize("most", [1, 2, 7, 400])
def test_the_chunk_that_ends_an_answer_has_no_text(client, messages, most) -> None:
    whole = ask(client, messages=messages, max_tokens=most).choices[0]
    chunks = list(ask(client, messages=messages, max_tokens=most, stream=True, logprobs=True))
    assert [chunk.choices[0].finish_reason for chunk in chunks] == [None] * (len(chunks) - 1) + [whole.finish_reason]
    assert chunks[-1].choices[0].delta.model_dump(exclude_none=True) == {}
    assert chunks[-1].choices[0].logprobs is None
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == whole.message.content
    assert [chunk.choices[0].delta.role for chunk in chunks] == ["assistant"] + [None] * (len(chunks) - 1)


def test_choices_of_a_stream_are_told_apart(client, engine) -> None:
    wanted = engine.generate(messages=MESSAGES, max_new_tokens=12).text
    texts = ["", "", ""]
    for chunk in ask(client, max_tokens=12, n=3, stream=True):
        texts[chunk.choices[0].index] += chunk.choices[0].delta.content or ""
    assert texts == [wanted] * 3


def test_content_may_come_in_parts(client) -> None:
    parts = [{"type": "text", "text": "Who are "}, {"type": "text", "text": "you?"}]
    messages = [MESSAGES[0], {"role": "user", "content": parts}]
    found = ask(client, messages=messages, max_tokens=12)
    assert found.choices[0].message.content == ask(client, max_tokens=12).choices[0].message.content


def test_a_developers_message_is_the_systems(client) -> None:
    messages = [{"role": "developer", "content": "Be kind."}, MESSAGES[1]]
    found = ask(client, messages=messages, max_tokens=12)
    assert found.choices[0].message.content == ask(client, max_tokens=12).choices[0].message.content


def test_an_answer_goes_on_with_the_last_message(client, engine) -> None:
    whole = engine.generate(messages=MESSAGES, max_new_tokens=200)
    start = whole.text[: whole.text.index(".") + 1]  # where tokens end
    messages = [*MESSAGES, {"role": "assistant", "content": start}]
    for more in ({}, {"add_generation_prompt": False}):
        found = ask(client, messages=messages, extra_body={"continue_final_message": True, **more}, max_tokens=200)
        assert start + found.choices[0].message.content == whole.text
    plain = ask(client, messages=messages, max_tokens=5)
    assert plain.usage.prompt_tokens > found.usage.prompt_tokens


@pytest.mark.parametrize(
    ("last", "more"),
    [
        ({"role": "user", "content": "Hi"}, {}),
        ({"role": "assistant", "content": ""}, {}),
        ({"role": "assistant", "content": "I am"}, {"add_generation_prompt": True}),
    ],
)
def test_what_cannot_go_on(client, last, more) -> None:
    with pytest.raises(openai.BadRequestError, match="continue_final_message"):
        ask(client, messages=[*MESSAGES, last], extra_body={"continue_final_message": True, **more})


def test_no_top_logprobs_are_no_mistake(client) -> None:
    assert ask(client, max_tokens=1, top_logprobs=0).choices[0].logprobs is None
    (token,) = ask(client, max_tokens=1, logprobs=True, top_logprobs=0).choices[0].logprobs.content
    assert token.top_logprobs == []


def serve_without(tmp_path: Path, *missing: str) -> Any:
    """Serve the small model built from a checkpoint that lacks some of its files."""
    source = Path(zoo_tiny.__file__).parent / "checkpoint"
    shutil.copytree(source, tmp_path / "base", ignore=shutil.ignore_patterns(*missing))
    config = tmp_path / "base" / "tokenizer_config.json"
    if config.is_file():
        values = json.loads(config.read_text())
        values.pop("chat_template", None)
        config.write_text(json.dumps(values))
    return serving([zoo.build(tmp_path / "base", "int8", output=tmp_path / "package").path], threads=1)


def test_a_base_model_has_no_chat(tmp_path: Path) -> None:
    with serve_without(tmp_path, "chat_template.jinja") as served:
        client = openai.OpenAI(base_url=f"{served.url}/v1", api_key="none", max_retries=0)
        (model,) = client.models.list().data
        assert model.chat is False
        with pytest.raises(openai.BadRequestError, match="base model; use /v1/completions"):
            ask(client, model=model.id)
        assert client.completions.create(model=model.id, prompt="Once", max_tokens=2).usage.prompt_tokens > 0


def test_a_conversation_is_sampled_as_the_authors_say(tmp_path: Path) -> None:
    checkpoint = tmp_path / "ck"
    shutil.copytree(Path(zoo_tiny.__file__).parent / "checkpoint", checkpoint)
    stated = {"eos_token_id": [2, 6], "bos_token_id": 1, "do_sample": True, "temperature": 4.0, "top_k": 1}
    (checkpoint / "generation_config.json").write_text(json.dumps(stated))
    package = zoo.build(str(checkpoint), "fp32", output=tmp_path / "package").path
    engine = zoo.open(package)
    greedy = engine.generate(messages=MESSAGES, max_new_tokens=12).text
    with serving([package]) as server:
        client = openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)

        def say(**options: Any) -> str:
            given = {"model": "ck", "messages": MESSAGES, "max_tokens": 12, **options}
            return client.chat.completions.create(**given).choices[0].message.content

        assert say() == greedy  # the one likeliest token, at any temperature
        wild = {say(seed=seed, extra_body={"top_k": 0}) for seed in range(3)}
        assert wild != {greedy}
        assert say(temperature=0, extra_body={"top_k": 0}) == greedy
        plain = {"model": "ck", "prompt": "Once", "max_tokens": 12, "seed": 1}
        texts = {client.completions.create(**{**plain, "seed": seed}).choices[0].text for seed in range(3)}
        assert len(texts) > 1  # a completion is no conversation
        card = httpx2.get(f"{server.url}/zoo/models/ck").json()
        assert card["sampling"] == {
            "temperature": 4.0,
            "top_k": 1,
            "top_p": 1.0,
            "min_p": 0.0,
            "repetition_penalty": 1.0,
        }


def test_without_a_tokenizer_ids_go_in_and_no_text_comes_out(tmp_path: Path) -> None:
    with serve_without(tmp_path, "tokenizer*", "chat_template.jinja") as served:
        client = openai.OpenAI(base_url=f"{served.url}/v1", api_key="none", max_retries=0)
        name = client.models.list().data[0].id
        with pytest.raises(openai.BadRequestError, match="no tokenizer"):
            client.completions.create(model=name, prompt="Once")
        found = client.completions.create(model=name, prompt=[1, 5, 9], max_tokens=3, logprobs=1, temperature=0)
        assert found.choices[0].text == ""
        assert len(found.choices[0].logprobs.tokens) == found.usage.completion_tokens
