"""``/v1/responses`` through the official client: text, streams, tools, forms, and nothing that is kept."""

from __future__ import annotations

import json
from typing import Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict

from tests.server.scripted import script as script
from tests.server.serving import post
from tests.server.test_tools import CALL, WEATHER
from tests.server.test_tools import scripted as scripted
from tests.server.test_tools import talker as talker

TOOL = {"type": "function", **WEATHER["function"]}
MESSAGES = [{"role": "user", "content": "Who are you?"}]


def test_an_answer_is_that_of_chat(client, engine) -> None:
    wanted = engine.generate(messages=[{"role": "system", "content": "Be kind."}, *MESSAGES], max_new_tokens=60)
    found = client.responses.create(
        model="zoo-tiny", instructions="Be kind.", input="Who are you?", temperature=0, max_output_tokens=60
    )
    assert (found.output_text, found.status) == (wanted.text, "completed")
    assert found.usage.input_tokens == len(wanted.prompt_ids)
    assert found.id.startswith("resp_")
    cut = client.responses.create(model="zoo-tiny", input=MESSAGES, max_output_tokens=2)
    assert (cut.status, cut.incomplete_details.reason) == ("incomplete", "max_output_tokens")


def test_a_stream_tells_of_every_item(client) -> None:
    options = {"model": "zoo-tiny", "input": "Who are you?", "temperature": 0, "max_output_tokens": 40}
    whole = client.responses.create(**options)
    events = list(client.responses.create(**options, stream=True))
    kinds = [event.type for event in events]
    assert kinds[:4] == ["response.created", "response.in_progress", "response.output_item.added",
                         "response.content_part.added"]  # fmt: skip
    assert kinds[-4:] == ["response.output_text.done", "response.content_part.done", "response.output_item.done",
                          "response.completed"]  # fmt: skip
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert "".join(event.delta for event in events if event.type == "response.output_text.delta") == whole.output_text
    assert events[-1].response.output_text == whole.output_text
    assert events[-1].response.usage.output_tokens == whole.usage.output_tokens
    with client.responses.stream(**options) as stream:
        assert stream.get_final_response().output_text == whole.output_text


class Pet(BaseModel):
    model_config = ConfigDict(extra="forbid")
    kind: Literal["dog", "cat"]


def test_an_answer_is_parsed(client) -> None:
    found = client.responses.parse(model="zoo-tiny", input="Who are you?", text_format=Pet, max_output_tokens=60)
    assert isinstance(found.output_parsed, Pet)


@pytest.mark.parametrize("stream", [False, True])
def test_the_loop_of_tools(scripted, stream) -> None:
    script, client = scripted

    def ask(**options: Any) -> Any:
        found = client.responses.create(**{"model": "talker", "tools": [TOOL], "stream": stream, **options})
        return list(found)[-1].response if stream else found

    script.say("<think>Hm, ", "look.</think>\n", *CALL)
    first = ask(input=[{"role": "user", "content": "How is the weather in Bern?"}])
    reasoning, call = first.output
    assert (reasoning.type, reasoning.content[0].text) == ("reasoning", "Hm, look.")
    assert (call.type, call.name, json.loads(call.arguments)) == (
        "function_call",
        "weather",
        {"city": "Bern", "days": 2},
    )
    assert first.usage.output_tokens_details.reasoning_tokens > 0

    script.say("It is ", "warm.")
    history = [
        {"role": "user", "content": "How is the weather in Bern?"},
        *(item.model_dump() for item in first.output),
    ]
    result = {"type": "function_call_output", "call_id": call.call_id, "output": '{"degrees": 21}'}
    assert ask(input=[*history, result]).output_text == "It is warm."
    assert '"arguments": {"city": "Bern", "days": 2}' in script.prompts[-1]
    assert '{"degrees": 21}' in script.prompts[-1]


def test_an_error_inside_a_stream(scripted) -> None:
    script, client = scripted
    script.say("One ", RuntimeError("broken"))
    events = list(client.responses.create(model="talker", input="Hi", stream=True))
    assert [event.type for event in events[-2:]] == ["error", "response.failed"]
    assert (events[-1].response.status, events[-1].response.error.code) == ("failed", "engine_error")


@pytest.mark.parametrize(
    ("fields", "param", "said"),
    [
        ({"previous_response_id": "resp_1"}, "previous_response_id", "not supported"),
        ({"background": True}, "background", "not supported"),
        ({"tools": [{"type": "web_search"}]}, "tools.0", "knows functions"),
        ({"input": [{"type": "item_reference", "id": "x"}]}, "input.0", "item_reference"),
        (
            {"input": [{"type": "function_call_output", "call_id": "x", "output": "1"}]},
            "messages.0.tool_call_id",
            "call",
        ),
        ({"input": []}, "input", ""),
        ({"input": [{"role": "user", "content": [{"type": "input_image"}]}]}, "messages.0.content", "images"),
        ({"max_output_token": 3}, "max_output_token", "did you mean max_output_tokens"),
        ({"text": {"format": {"type": "json_schema", "schema": {"not": {}}}}}, "response_format", "'not'"),
    ],
)
def test_what_is_refused(served, fields, param, said) -> None:
    status, _, body = post(served, "/v1/responses", {"model": "zoo-tiny", "input": "Hi", **fields})
    assert status == 400, body
    assert (body["error"]["param"] or "").startswith(param)
    assert said in body["error"]["message"]
