"""Tools and thoughts through the official client: a model that says what a test wants, and one led by a grammar."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import openai
import pytest

import zoo
from tests.server.scripted import Script, talking_checkpoint
from tests.server.scripted import script as script
from tests.server.serving import Served, post, serving

WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Say how the weather is.",
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"type": "string", "maxLength": 10}, "days": {"type": "integer", "minimum": 1, "maximum": 9}
            },
            "required": ["city", "days"],
            "additionalProperties": False,
        },
    },
}  # fmt: skip
NOW = {"type": "function", "function": {"name": "now"}}
ASK = [{"role": "user", "content": "How is the weather in Bern?"}]
CALL = '<tool_call>\n{"name": "weather", "arguments": {"city": "Bern", "days": 2}}\n</tool_call>'


@pytest.fixture(scope="module")
def talker(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tools")
    return zoo.build(str(talking_checkpoint(folder / "talker")), "int8", output=folder / "package").path


@pytest.fixture
def scripted(script: Script, talker: Path) -> Iterator[tuple[Script, openai.OpenAI]]:
    with serving([talker]) as served:
        yield script, openai.OpenAI(base_url=f"{served.url}/v1", api_key="none", max_retries=0)


@pytest.fixture(scope="module")
def real(talker: Path) -> Iterator[Served]:
    with serving([talker], threads=1) as served:
        yield served


def ask(client: openai.OpenAI, **options: Any) -> Any:
    return client.chat.completions.create(**{"model": "talker", "messages": ASK, **options})


def gather(chunks: Any) -> tuple[dict[str, Any], str | None]:
    """Put the deltas of a stream together, as clients do."""
    message: dict[str, Any] = {"content": "", "reasoning_content": "", "calls": {}}
    reason = None
    for chunk in chunks:
        choice = chunk.choices[0]
        delta = choice.delta.model_dump(exclude_none=True)
        message["content"] += delta.get("content", "")
        message["reasoning_content"] += delta.get("reasoning_content", "")
        for call in delta.get("tool_calls", ()):
            known = message["calls"].setdefault(call["index"], {"id": call.get("id"), "name": "", "arguments": ""})
            known["name"] += call["function"].get("name", "")
            known["arguments"] += call["function"]["arguments"]
        reason = choice.finish_reason or reason
    return message, reason


def test_the_loop_of_tools(scripted) -> None:
    script, client = scripted
    script.say("Let me ", "look.\n<tool", '_call>\n{"name": "weather", "argu', 'ments": {"city": "Be',
               'rn", "days": 2}}\n', "</tool_call>")  # fmt: skip
    found = ask(client, tools=[WEATHER, NOW]).choices[0]
    assert found.finish_reason == "tool_calls"
    assert found.message.content == "Let me look."
    (call,) = found.message.tool_calls
    assert (call.function.name, json.loads(call.function.arguments)) == ("weather", {"city": "Bern", "days": 2})
    assert '"name": "weather"' in script.prompts[-1]

    script.say("It is warm.")
    result = {"role": "tool", "tool_call_id": call.id, "content": '{"degrees": 21}'}
    found = ask(client, tools=[WEATHER, NOW], messages=[*ASK, found.message, result]).choices[0]
    assert (found.message.content, found.finish_reason) == ("It is warm.", "stop")
    assert found.message.tool_calls is None
    assert '"arguments": {"city": "Bern", "days": 2}' in script.prompts[-1]
    assert '{"degrees": 21}' in script.prompts[-1]


def test_calls_are_streamed_as_they_come(scripted) -> None:
    script, client = scripted
    two = CALL + '\n<tool_call>\n{"name": "now", "arguments": {}}\n</tool_call>'
    script.say("Hm. ", *two)
    chunks = list(ask(client, tools=[WEATHER, NOW], stream=True))
    message, reason = gather(chunks)
    assert reason == "tool_calls"
    assert chunks[-1].choices[0].delta.model_dump(exclude_none=True) == {}
    assert message["content"] == "Hm."
    assert [(call["name"], json.loads(call["arguments"])) for call in message["calls"].values()] == [
        ("weather", {"city": "Bern", "days": 2}), ("now", {}),
    ]  # fmt: skip
    assert len({call["id"] for call in message["calls"].values()}) == 2


def test_one_call_where_one_is_asked_for(scripted) -> None:
    script, client = scripted
    script.say(f"{CALL}\n{CALL}")
    assert len(ask(client, tools=[WEATHER], parallel_tool_calls=False).choices[0].message.tool_calls) == 1
    assert len(ask(client, tools=[WEATHER]).choices[0].message.tool_calls) == 2


def test_without_tools_a_call_is_text(scripted) -> None:
    script, client = scripted
    script.say(CALL)
    for options in ({}, {"tools": [WEATHER], "tool_choice": "none"}):
        found = ask(client, **options).choices[0]
        assert (found.message.content, found.finish_reason) == (CALL, "stop")
        assert "<|system|>" not in script.prompts[-1]
        assert '"name": "weather"' not in script.prompts[-1]


def test_thoughts_come_apart(scripted) -> None:
    script, client = scripted
    script.say("<thi", "nk>\nHm, ", "so.</th", "ink>\n\nYes", ".")
    found = ask(client).choices[0].message
    assert (found.reasoning_content, found.content) == ("Hm, so.", "Yes.")
    message, reason = gather(ask(client, stream=True))
    assert (message["reasoning_content"], message["content"], reason) == ("Hm, so.", "Yes.", "stop")
    script.say("Hm, so.</think>Yes.")  # the template wrote the beginning
    found = ask(client, extra_body={"chat_template_kwargs": {"thinks": True}}).choices[0].message
    assert (found.reasoning_content, found.content) == ("Hm, so.", "Yes.")


def test_thinking_is_switched_off(scripted) -> None:
    script, client = scripted
    script.say("Yes.")
    for options in ({"extra_body": {"chat_template_kwargs": {"enable_thinking": False}}}, {"reasoning_effort": "none"}):
        found = ask(client, **options).choices[0].message
        assert found.content == "Yes."
        assert not hasattr(found, "reasoning_content")
    assert len(set(script.prompts[-2:])) == 1
    with_thoughts = ask(client, reasoning_effort="high")
    assert with_thoughts.usage.prompt_tokens < len(script.tickets[-2].generation.prompt_ids)


def fitting(calls: Any) -> list[str]:
    """Check that the arguments of calls fit; return the names."""
    for call in calls:
        assert len(call.id) == 9
        if call.function.name == "weather":
            jsonschema.validate(json.loads(call.function.arguments), WEATHER["function"]["parameters"])
        else:
            assert isinstance(json.loads(call.function.arguments), dict)
    return [call.function.name for call in calls]


@pytest.mark.parametrize("stream", [False, True])
def test_a_call_that_is_required_is_made(real, stream) -> None:
    client = openai.OpenAI(base_url=f"{real.url}/v1", api_key="none", max_retries=0)
    named = {"type": "function", "function": {"name": "weather"}}
    for seed in range(3):
        for choice in ("required", named):
            options = {"tools": [WEATHER], "tool_choice": choice, "temperature": 1, "seed": seed, "max_tokens": 200}
            found = ask(client, parallel_tool_calls=False, stream=stream, **options)
            if stream:
                message, reason = gather(found)
                (call,) = message["calls"].values()
                assert call["name"] == "weather"
                jsonschema.validate(json.loads(call["arguments"]), WEATHER["function"]["parameters"])
                assert message["content"] == ""
            else:
                reason = found.choices[0].finish_reason
                assert fitting(found.choices[0].message.tool_calls) == ["weather"]
            assert reason == "tool_calls"


def wanting(parameters: dict[str, Any]) -> dict[str, Any]:
    return {"type": "function", "function": {"name": "f", "parameters": parameters}}


@pytest.mark.parametrize(
    ("fields", "param", "said"),
    [
        ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools.0.function.name", ""),
        ({"tools": [WEATHER] * 500}, "tools", "at most 128"),
        ({"tools": [WEATHER, WEATHER]}, "tools", "two tools have the name 'weather'"),
        ({"tools": [NOW], "tool_choice": {"type": "function", "function": {"name": "weather"}}}, "tool_choice",
         "the tools: now"),
        ({"tools": [wanting({"not": {}})], "tool_choice": "required"}, "tools", "'not' is not supported"),
        ({"tools": [wanting({"$ref": "#"})], "tool_choice": "required"}, "tools", "the tool 'f'"),
        ({"messages": [*ASK, {"role": "tool", "tool_call_id": "x", "content": "21"}]}, "messages.1.tool_call_id",
         "no message before"),
    ],
)  # fmt: skip
def test_what_cannot_be_offered_is_named(real, fields, param, said) -> None:
    status, _, body = post(
        real, "/v1/chat/completions", {"model": "talker", "messages": ASK, "max_tokens": 5, **fields}
    )
    assert (status, body["error"]["param"]) == (400, param)
    assert said in body["error"]["message"]


def test_a_model_without_tools_says_so(client) -> None:
    with pytest.raises(openai.BadRequestError, match="this model does not support tools"):
        ask(client, model="zoo-tiny", tools=[WEATHER])
