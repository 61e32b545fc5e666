"""How a package writes calls and thoughts: declared by its family, or known by what its chat template writes."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from zoo.plugins import host
from zoo.stages.manners import find_manners

TOOLS = "{% if tools %}{{ tools }}{% endif %}"


def find(model: str, family: str | None, template: str):
    return find_manners(host().registry, SimpleNamespace(model=model, family=family), {"default": template})


@pytest.mark.parametrize(
    ("model", "family", "template", "calls", "thinks"),
    [
        ("qwen3-0.6b", "qwen", TOOLS + "<think>", "object", True),
        ("qwen2.5-7b-instruct", "qwen", TOOLS, "object", False),
        ("qwen1.5-7b-chat", "qwen", "{{ messages }}", None, False),
        ("somebody/fine-tune", "qwen", TOOLS, "object", False),
        ("mistral-7b-instruct-v0.3", "mistral", TOOLS + "[TOOL_CALLS]", "list", False),
        ("deepseek-r1-distill-qwen-7b", "deepseek-r1", TOOLS + "</think>", "named", True),
        ("llama3.1-8b-instruct", "llama3", TOOLS, "object", False),
        ("unheard-of", None, TOOLS + "<tool_call>", "object", False),
        ("unheard-of", "absent", TOOLS + "[TOOL_CALLS] <think>", "list", True),
        ("unheard-of", None, TOOLS, None, False),
        ("unheard-of", None, "", None, False),
    ],
)
def test_what_is_found(model, family, template, calls, thinks) -> None:
    manners = find(model, family, template)
    assert (manners.tools.calls if manners.tools else None) == calls
    assert (manners.thinking is not None) == thinks
