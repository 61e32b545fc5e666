"""Calls of tools as the template of a model reads them."""

from __future__ import annotations

import pytest
from zoo_server.turn import as_template_reads

from zoo.engine.chat import render

CALL = {"type": "function", "id": "c", "function": {"name": "now", "arguments": {"zone": "é"}}}
ASK = {"role": "user", "content": "When?"}
JOINED = (
    "{% for message in messages %}{% if message['role'] == 'assistant' and message['content'] is none %}"
    "{% for tool in message['tool_calls'] %}"
    "{{ '<' + tool['function']['name'] + ':' + tool['function']['arguments'] + '>' }}{% endfor %}"
    "{% else %}{{ message['content'] }}{% endif %}{% endfor %}"
)
DUMPED = (
    "{% for message in messages %}{{ message.content | trim }}{% for call in message.tool_calls or [] %}"
    "<{{ call.function.name }}:{{ call.function.arguments | tojson }}>{% endfor %}{% endfor %}"
)


@pytest.mark.parametrize(
    ("template", "wanted"), [(JOINED, 'When?<now:{"zone": "é"}>'), (DUMPED, 'When?<now:{"zone": "é"}>')]
)
def test_arguments_and_content_come_as_the_template_wants_them(template, wanted) -> None:
    messages = [ASK, {"role": "assistant", "content": "", "tool_calls": [CALL]}]
    assert render(template, as_template_reads(messages, template), {}, ask=False) == wanted


def test_messages_without_calls_stay_as_they_are() -> None:
    messages = [ASK, {"role": "assistant", "content": ""}]
    assert as_template_reads(messages, JOINED) == messages
