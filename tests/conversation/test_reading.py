"""Answers as families write them, in pieces of every size: what is a thought, what a call, and what only seems so."""

from __future__ import annotations

import pytest

from tests.conversation.formats import PYTHONIC, declared
from tests.conversation.reading import read
from zoo.declarations.conversation import Thinking, ToolFormat

SIZES = (1, 2, 3, 7, 1000)
HERMES, LLAMA = declared("qwen2.5-7b-instruct"), declared("llama3.1-8b-instruct")
MISTRAL, DEEPSEEK = declared("mistral-7b-instruct-v0.3"), declared("deepseek-r1-distill-qwen-7b")
ARGS = ToolFormat(calls="named", before="[TOOL_CALLS]", separator="[ARGS]")
WEATHER = ("weather", {"city": "Bern", "note": '} ] </tool_call> "é"', "days": [1, {"a": None}]})
RAW = r'{"city": "Bern", "note": "} ] </tool_call> \"é\"", "days": [1, {"a": null}]}'
TOOLS = ("weather", "now")

CASES = [
    (HERMES, f'<tool_call>\n{{"name": "weather", "arguments": {RAW}}}\n</tool_call>', "", [WEATHER]),
    (
        HERMES,
        f'Let me look.\n<tool_call>\n{{"name": "now", "arguments": {{}}}}\n</tool_call>\n<tool_call>\n'
        f'{{"arguments": {RAW}, "name": "weather"}}\n</tool_call>',
        "Let me look.",
        [("now", {}), WEATHER],
    ),
    (HERMES, '<tool_call>{"name":"weather","arguments":"{\\"a\\": 1}"}</tool_call>', "", [("weather", {"a": 1})]),
    (HERMES, "I would write <tool_cal or <tool, but do not.", "I would write <tool_cal or <tool, but do not.", []),
    (HERMES, '{"name": "weather"}', '{"name": "weather"}', []),
    (LLAMA, f'{{"name": "weather", "parameters": {RAW}}}', "", [WEATHER]),
    (LLAMA, f'\n<|python_tag|>{{"type": "function", "name": "weather", "parameters": {RAW}}}', "", [WEATHER]),
    (LLAMA, '{"name": "now", "parameters": {}}; {"name": "weather", "parameters": {"a": 2}}', "",
     [("now", {}), ("weather", {"a": 2})]),
    (LLAMA, '{"name": "nobody", "parameters": {}}', '{"name": "nobody", "parameters": {}}', []),
    (LLAMA, '{"answer": {"name": "now"}}', '{"answer": {"name": "now"}}', []),
    (LLAMA, 'Here: {"name": "now", "parameters": {}}', 'Here: {"name": "now", "parameters": {}}', []),
    (LLAMA, "{ is a brace.", "{ is a brace.", []),
    (MISTRAL, f'[TOOL_CALLS] [{{"name": "weather", "arguments": {RAW}}}, {{"name": "now", "arguments": {{}}}}]', "",
     [WEATHER, ("now", {})]),
    (ARGS, f"[TOOL_CALLS]weather[ARGS]{RAW}[TOOL_CALLS]now[ARGS]{{}}", "", [WEATHER, ("now", {})]),
    (
        DEEPSEEK,
        "Hm.<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>weather\n```json\n" + RAW
        + "\n```<｜tool▁call▁end｜>\n<｜tool▁call▁begin｜>function<｜tool▁sep｜>now\n```json\n{}"
        "\n```<｜tool▁call▁end｜>"
        "<｜tool▁calls▁end｜>",
        "Hm.",
        [WEATHER, ("now", {})],
    ),
    (PYTHONIC, '[weather(city="Bern", days=[1, 2], deep={"a": null}), now()]', "",
     [("weather", {"city": "Bern", "days": [1, 2], "deep": {"a": None}}), ("now", {})]),
    (PYTHONIC, "[nobody(a=1)]", "[nobody(a=1)]", []),
    (PYTHONIC, "[1, 2]", "[1, 2]", []),
    (PYTHONIC, "[weather(__import__('os').system('true'))]", "[weather(__import__('os').system('true'))]", []),
    (PYTHONIC, "[weather(a=open('x'))]", "[weather(a=open('x'))]", []),
    (None, "<tool_call>", "<tool_call>", []),
]  # fmt: skip


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("form", "text", "content", "calls"), CASES)
def test_calls(form, text, content, calls, size) -> None:
    found = read(text, form, TOOLS, size=size)
    assert found == {"reasoning": "", "content": content, "calls": calls}


THINKING = Thinking()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    ("text", "opened", "reasoning", "content"),
    [
        ("<think>\nHm, 1 < 2.\n</think>\n\nTwo.", False, "Hm, 1 < 2.\n", "Two."),
        ("\n<think>Hm.</think>Two.", False, "Hm.", "Two."),
        ("Hm </thin no\n</think>\n\nTwo.", True, "Hm </thin no\n", "Two."),
        ("Hm, and nothing more", True, "Hm, and nothing more", ""),
        ("<think>Hm", False, "Hm", ""),
        ("Two <think>.", False, "", "Two <think>."),
        ("<thin", False, "", "<thin"),
        (" <b>", False, "", " <b>"),
        ("", True, "", ""),
        ("<think></think>", False, "", ""),
    ],
)
def test_thoughts(text, opened, reasoning, content, size) -> None:
    found = read(text, None, size=size, thinking=THINKING, opened=opened)
    assert found == {"reasoning": reasoning, "content": content, "calls": []}


@pytest.mark.parametrize("size", SIZES)
def test_a_call_after_thoughts(size) -> None:
    text = 'I think <tool_call> is how.</think>\n\n<tool_call>\n{"name": "now", "arguments": {}}\n</tool_call>'
    found = read(text, HERMES, TOOLS, size=size, thinking=THINKING, opened=True)
    assert found == {"reasoning": "I think <tool_call> is how.", "content": "", "calls": [("now", {})]}


def test_arguments_come_as_they_are_written() -> None:
    from zoo.conversation.reader import AnswerReader

    reader = AnswerReader(None, False, HERMES, TOOLS)
    parts = [part for piece in ('<tool_call>\n{"name": "weather", "argu', 'ments": {"ci', 'ty": "Be', 'rn"}}')
             for part in reader.add(piece)]  # fmt: skip
    assert [(part.kind, part.text) for part in parts] == [
        ("call", "weather"), ("arguments", '{"ci'), ("arguments", 'ty": "Be'), ("arguments", 'rn"}'),
    ]  # fmt: skip
