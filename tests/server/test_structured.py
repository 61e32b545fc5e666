"""Answers in a form, as clients ask for them: OpenAI's ``response_format``, and what vLLM's clients send."""

from __future__ import annotations

import json
import re
from typing import Annotated, Any, Literal

import openai
import pytest
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from tests.server.serving import post
from tests.server.test_protection import idle, wait_for

MESSAGES = [{"role": "user", "content": "Who are you?"}]


class Pet(BaseModel):
    model_config = ConfigDict(extra="forbid")

    kind: Literal["dog", "cat"]
    name: Annotated[str, StringConstraints(max_length=12)]
    age: Annotated[int, Field(ge=0, le=30)] | None
    friends: Annotated[list[Literal["Ann", "Bob"]], Field(max_length=2)]


def ask(client: Any, **options: Any) -> Any:
    return client.chat.completions.create(**{"model": "zoo-tiny", "messages": MESSAGES, "max_tokens": 150, **options})


def test_the_official_client_parses_an_answer(client) -> None:
    found = client.chat.completions.parse(
        model="zoo-tiny", messages=MESSAGES, response_format=Pet, max_tokens=200, temperature=0
    )
    assert isinstance(found.choices[0].message.parsed, Pet)
    assert found.choices[0].finish_reason == "stop"


def test_choices_and_streams_have_the_form_too(client) -> None:
    form = {"type": "json_schema", "json_schema": {"name": "pet", "strict": True, "schema": Pet.model_json_schema()}}
    found = ask(client, response_format=form, n=3, temperature=1.0, seed=1)
    for choice in found.choices:
        Pet.model_validate_json(choice.message.content)
    chunks = list(ask(client, response_format=form, stream=True, temperature=0))
    Pet.model_validate_json("".join(chunk.choices[0].delta.content or "" for chunk in chunks))
    assert chunks[-1].choices[0].finish_reason == "stop"


def test_any_object(client) -> None:
    found = ask(client, response_format={"type": "json_object"}, temperature=0).choices[0]
    assert found.message.content.startswith("{")
    assert found.finish_reason == "length" or isinstance(json.loads(found.message.content), dict)
    assert ask(client, response_format={"type": "text"}, max_tokens=3).choices[0].message.content


@pytest.mark.parametrize(
    ("extra", "pattern"),
    [
        ({"guided_regex": "[a-c]{4}/\\d"}, r"[a-c]{4}/\d"),
        ({"guided_choice": ["red", "green"]}, "red|green"),
        ({"guided_grammar": 'root ::= "x" [0-9] "y"'}, "x[0-9]y"),
        ({"guided_grammar": 'start: "x" /[0-9]/ "y"'}, "x[0-9]y"),
        ({"guided_json": {"enum": [1, 2]}}, "[12]"),
        ({"guided_json": '{"enum": [1, 2]}'}, "[12]"),
        ({"structured_outputs": {"regex": "a|b"}}, "a|b"),
        ({"structured_outputs": {"json": {"const": "é"}}}, '"é"'),
    ],
)
def test_forms_by_the_names_of_vllm(client, extra, pattern) -> None:
    assert re.fullmatch(pattern, ask(client, extra_body=extra).choices[0].message.content)
    found = client.completions.create(model="zoo-tiny", prompt="One", max_tokens=40, extra_body=extra)
    assert re.fullmatch(pattern, found.choices[0].text)
    assert found.choices[0].finish_reason == "stop"


@pytest.mark.parametrize(
    ("fields", "param", "said"),
    [
        (
            {"response_format": {"type": "json_schema", "json_schema": {"schema": {"not": {}}}}},
            "response_format",
            "'not'",
        ),
        ({"guided_json": {"$ref": "#"}}, "guided_json", "without an end"),
        ({"guided_json": "{"}, "guided_json", "not JSON"),
        ({"guided_regex": "("}, "guided_regex", "unclosed group"),
        ({"guided_grammar": "start: absent"}, "guided_grammar", "unknown name"),
        ({"guided_choice": []}, "guided_choice", "1 to 1000 texts"),
        ({"guided_regex": "a", "guided_choice": ["a"]}, "guided_choice", "cannot be used together"),
        ({"structured_outputs": {"regex": "a", "grammar": "b"}}, "structured_outputs", "cannot be used together"),
        ({"structured_outputs": {"frob": 1}}, "structured_outputs.frob", ""),
    ],
)
def test_what_cannot_be_followed_is_named(served, fields, param, said) -> None:
    for path, more in (("/v1/chat/completions", {"messages": MESSAGES}), ("/v1/completions", {"prompt": "Hi"})):
        status, _, body = post(served, path, {"model": "zoo-tiny", "max_tokens": 2, **more, **fields})
        assert status == 400
        assert body["error"]["param"] == param
        assert said in body["error"]["message"]
        assert "\n" not in body["error"]["message"]
    wait_for(lambda: idle(served))


def test_without_a_tokenizer_there_is_no_form(tmp_path) -> None:
    from tests.server.test_chat import serve_without

    with serve_without(tmp_path, "tokenizer*", "chat_template.jinja") as served:
        client = openai.OpenAI(base_url=f"{served.url}/v1", api_key="none", max_retries=0)
        name = client.models.list().data[0].id
        with pytest.raises(openai.BadRequestError, match="no tokenizer"):
            client.completions.create(model=name, prompt=[1], extra_body={"guided_regex": "a"})
