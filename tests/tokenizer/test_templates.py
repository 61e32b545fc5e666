"""Chat templates and the end of turn that they show."""

# ruff: noqa: E501  (templates are data)

from __future__ import annotations

import pytest

from tests.tokenizer.made import in_folder, words, write
from zoo.engine.chat import render
from zoo.errors import ZooError
from zoo.tokenizer.ends import end_of_turn
from zoo.tokenizer.files import read_files
from zoo.tokenizer.templates import chat_templates, choose_template

NAMED = [{"name": "tool_use", "template": "T"}, {"name": "default", "template": "D"}, {"name": "broken"}, "text"]
FOLDERS = {
    "none": ({}, {}),
    "config": ({"tokenizer_config_json": {"chat_template": "C"}}, {"default": "C"}),
    "file before config": (
        {"tokenizer_config_json": {"chat_template": "C"}, "chat_template_jinja": "F"},
        {"default": "F"},
    ),
    "two files before config": (
        {
            "tokenizer_config_json": {"chat_template": "C"},
            "chat_template_jinja": "F",
            "additional_chat_templates/tool_use_jinja": "T",
        },
        {"default": "F", "tool_use": "T"},
    ),
    "by name": ({"tokenizer_config_json": {"chat_template": NAMED}}, {"tool_use": "T", "default": "D"}),
    "by name, no default": ({"tokenizer_config_json": {"chat_template": NAMED[:1]}}, {"tool_use": "T"}),
    "processor": ({"chat_template_json": {"chat_template": "P"}}, {"default": "P"}),
    "config before processor": (
        {"chat_template_json": {"chat_template": "P"}, "tokenizer_config_json": {"chat_template": "C"}},
        {"default": "C"},
    ),
}


@pytest.mark.parametrize("name", FOLDERS)
def test_templates_by_name(tmp_path, name) -> None:
    files, wanted = FOLDERS[name]
    companion = in_folder(write(tmp_path, **files))
    assert chat_templates(companion, read_files(companion, "ck")) == wanted


@pytest.mark.parametrize("name", [name for name in FOLDERS if "processor" not in name and name != "none"])
@pytest.mark.parametrize("tools", [False, True])
def test_the_choice_is_that_of_transformers(tmp_path, name, tools) -> None:
    transformers = pytest.importorskip("transformers")
    files, wanted = FOLDERS[name]
    files = {key: {"chat_template": NAMED[:2]} if name == "by name" else value for key, value in files.items()}
    folder = write(tmp_path / "ck", tokenizer_json=words(), config_json={"model_type": "x"}, **files)
    auto = transformers.AutoTokenizer.from_pretrained(folder)
    try:
        expected = auto.get_chat_template(tools=[{}] if tools else None)
    except ValueError:
        with pytest.raises(ZooError, match="ck has chat templates for tool_use only and no default"):
            choose_template(wanted, "ck", tools=tools)
    else:
        assert choose_template(wanted, "ck", tools=tools) == expected


def test_a_base_model_has_none() -> None:
    with pytest.raises(ZooError, match="ck has no chat template: it is a base model; leave --chat out"):
        choose_template({}, "ck")


TOKENS = ("<s>", "</s>", "<|im_start|>", "<|im_end|>", "<|end|>", "<|return|>", "<|user|>", " ")
CHATML = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
ENDS = {
    CHATML: "<|im_end|>",
    "{% for m in messages %}{% if m.role == 'user' %}<s>[INST] {{ m.content }} [/INST]{% else %} {{ m.content }} </s>{% endif %}{% endfor %}": "</s>",
    # Earlier turns end in the token that parts messages, the last one in the token that ends the turn.
    "{% for m in messages %}{{ m.content }}{{ '<|return|>' if loop.last and m.role == 'assistant' else '<|end|>' }}{% endfor %}": "<|return|>",
    # The last turn stays open.
    "{% for m in messages %}{{ m.content }}{% if not loop.last %}<|end|>{% endif %}{% endfor %}": "<|end|>",
    # Nothing ends the turn but the header of the next.
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}{% endfor %}": "<|user|>",
    "{% for m in messages %}### {{ m.role }}: {{ m.content }}\n\n{% endfor %}": None,
    "{{ raise_exception('never') }}": None,
    "{% for m in messages if m.role == 'user' %}{{ m.content }}{% endfor %}": None,
    "{{ broken": None,
}


@pytest.mark.parametrize("template", ENDS)
def test_the_token_behind_the_assistants_turn(template) -> None:
    assert end_of_turn(lambda turns: render(template, turns, {}, ask=False), TOKENS) == ENDS[template]
