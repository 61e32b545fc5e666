"""Chat templates: rendered as transformers renders them, and bounded."""

# ruff: noqa: E501  (templates are data)

from __future__ import annotations

import json
import time

import pytest

from zoo.engine.chat import find_template, render, special_tokens
from zoo.errors import UsageError, ZooError

TOKENS = {"bos_token": "<s>", "eos_token": "</s>"}
TALK = [
    {"role": "system", "content": "Be  brief.\n"},
    {"role": "user", "content": ' Hi <b>"you"</b> & ünï '},
    {"role": "assistant", "content": "Hello."},
    {"role": "user", "content": "Again?"},
]
INST = """
{%- if messages[0]['role'] == 'system' %}
    {%- set first = messages[0]['content'] %}
    {%- set rest = messages[1:] %}
{%- else %}
    {%- set first = false %}
    {%- set rest = messages %}
{%- endif %}
{% for message in rest %}
    {% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}
        {{ raise_exception('roles must alternate') }}
    {% endif %}
    {% if message['role'] == 'user' %}
        {% if loop.first and first %}
{{ bos_token + '[INST] <<SYS>>\\n' + first + '\\n<</SYS>>\\n\\n' + message['content'].strip() + ' [/INST]' }}
        {% else %}
{{ bos_token ~ '[INST] ' ~ message.content | trim ~ ' [/INST]' }}
        {% endif %}
    {% else %}
{% generation %}{{ ' ' ~ message['content'] }}{% endgeneration %}{{ eos_token }}
    {% endif %}
{% endfor %}
"""
TEMPLATES = {
    "inst": INST,
    "loop": "{% for m in messages %}{{ loop.index }}/{{ loop.length }}{{ '!' if loop.last }}{{ m.role }}\n{% endfor %}",
    "loop_previous": "{% for m in messages %}{{ loop.previtem.role if not loop.first }}>{{ loop.nextitem }}{% endfor %}",
    "filtered": "{% for m in messages if m.role != 'system' %}{{ loop.length }}{{ m['content'] }}{% else %}-{% endfor %}",
    "json": "{{ messages | tojson }}{{ messages[0] | tojson(indent=2) }}{{ messages | map(attribute='role') | join(', ') }}",
    "controls": "{% for m in messages %}{% if m.role == 'assistant' %}{% break %}{% endif %}{{ m.content }}{% endfor %}",
    "namespace": "{% set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + m.content|length %}{% endfor %}{{ ns.n }}",
    "macro": "{% macro one(m, k=2) %}{{ m.role * k }}{% endmacro %}{% for m in messages %}{{ one(m) }}{% endfor %}",
    "nested": "{% for a in messages %}{% for b in range(3) %}{{ a.role[b] }}{{ loop.index }}{% endfor %}{% endfor %}",
    "unpacked": "{% for k, v in messages[1].items() %}{{ k }}={{ v }};{% endfor %}{{ tools }}{{ undefined_one }}",
    "formatted": "{{ '%s-%03d' % (messages[0].role, 7) }}{{ '{:>8}'.format('x') }}{{ 'ab' | center(9) }}{{ 2 ** 8 }}",
    "prompted": "{{ bos_token }}x{% if add_generation_prompt %}\n<|assistant|>{% endif %}\n",
}


@pytest.mark.parametrize("name", list(TEMPLATES))
def test_it_renders_as_transformers_does(name) -> None:
    reference = pytest.importorskip("transformers.utils.chat_template_utils")
    wanted, _ = reference.render_jinja_template(
        [TALK], chat_template=TEMPLATES[name], add_generation_prompt=True, **TOKENS
    )
    assert render(TEMPLATES[name], TALK, TOKENS) == wanted[0]


def test_a_date_can_be_asked_for() -> None:
    assert render("{{ strftime_now('%Y') }}", TALK, {}) == time.strftime("%Y")


def test_what_a_template_refuses_is_said() -> None:
    with pytest.raises(ZooError, match="refuses this conversation: roles must alternate"):
        render(INST, [{"role": "assistant", "content": "x"}], TOKENS)


def test_numbers_in_what_users_say_are_no_widths() -> None:
    said = '{"n": 12345678} 100% of 99999999 {x}'
    template = (
        "{% macro show(x) %}<{{ x }}>{% endmacro %}{% for m in messages %}{{ m.content | trim }}{{ m.content.split('|')[0] }}"
        "{{ m.content | replace('a', 'b') }}{{ m.n | tojson }}{{ show(m.n) }}{{ '%s' % m.content }}{{ '{}'.format(m.n) }}"
        "{% endfor %}"
    )
    talk = [{"role": "user", "content": said, "n": 123456789}]
    assert render(template, talk, {}) == said * 3 + "123456789<123456789>" + said + "123456789"


BAD = {
    "nested loops": "{% for a in range(9999) %}{% for b in range(9999) %}{% for c in range(9999) %}{% endfor %}{% endfor %}{% endfor %}",
    "a long range": "{% for a in range(10**9) %}{% endfor %}",
    "loops over a text": "{% set x = 'x' * 4000 %}" + "{% for a in x %}" * 4 + "{% endfor %}" * 4,
    "a doubling text": "{% set ns = namespace(s='x') %}{% for a in range(64) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}",
    "a doubling sum": "{% set ns = namespace(s='x') %}{% for a in range(64) %}{% set ns.s = ns.s + ns.s %}{% endfor %}",
    "a doubling list": "{% set ns = namespace(s=[1]) %}{% for a in range(64) %}{% set ns.s = ns.s + ns.s %}{% endfor %}",
    "a repetition": "{{ 'x' * 10**10 }}",
    "a repetition turned round": "{{ (10**10) * 'x' }}",
    "a power": "{{ 9 ** (9 ** 9) }}",
    "a growing number": "{% set ns = namespace(n=9) %}{% for a in range(99) %}{% set ns.n = ns.n * ns.n %}{% endfor %}",
    "a filter's width": "{{ '%9999999999d' | format(1) }}",
    "a width of a method": "{{ '{:9999999999}'.format(1) }}",
    "a width by an argument": "{{ '%*d' % (9999999999, 1) }}",
    "a width by an argument of a method": "{{ '{:{}}'.format(1, 9999999999) }}",
    "a width": "{{ '%9999999999d' % 1 }}",
    "a format": "{{ '{:>9999999999}'.format(1) }}",
    "a centre": "{{ 'x' | center(10000000000) }}",
    "a method": "{{ 'x'.ljust(10000000000) }}",
    "a replacement": "{{ ('x' * 100000).replace('x', 'y' * 100000) }}",
    "a join": "{{ ('x' * 100000).join(['y'] * 100000) }}",
    "a filter's join": "{{ (['y' * 1000] * 1000000) | join('x' * 1000) }}",
    "macros that call each other": "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(40) }}",
    "a format through a method": "{{ '{:>{w}}'.format(1, w=9999999999) }}{{ '{a:>9999999999}'.format_map({'a': 1}) }}",
    "endless recursion": "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "a long output": "{% for a in range(90000) %}" + "x" * 100 + "{% endfor %}",
    "a way out": "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "a change": "{{ messages.append(1) }}",
    "no template": "{% for %}",
    "an unknown filter": "{{ 1 | nothing }}",
    "a number too many": "{{ 1 / 0 }}",
}


@pytest.mark.parametrize("name", list(BAD))
def test_a_template_that_misbehaves_ends_in_one_line(name) -> None:
    started = time.process_time()
    with pytest.raises(ZooError) as caught:
        render(BAD[name], TALK, TOKENS)
    assert time.process_time() - started < 5
    assert "\n" not in str(caught.value)
    assert "template" in str(caught.value)


def test_the_budget_is_for_one_rendering() -> None:
    template = "{% for a in range(50000) %}{% endfor %}ok"
    assert [render(template, TALK, {}) for _ in range(15)] == ["ok"] * 15


def test_messages_are_checked() -> None:
    for wrong in ([{"content": "x"}], ["x"], [{"role": 1, "content": "x"}], [{"role": "user"}]):
        with pytest.raises(UsageError, match="a message is"):
            render("x", wrong, {})
    with pytest.raises(UsageError, match="JSON"):
        render("x", [{"role": "user", "content": object()}], {})


def test_where_templates_come_from(tmp_path) -> None:
    assert find_template(tmp_path) is None
    config = tmp_path / "tokenizer_config.json"
    several = [{"name": "tool_use", "template": "t"}, {"name": "default", "template": "d"}]
    for stated, wanted in (("plain", "plain"), (several, "d"), ([], None), (None, None)):
        config.write_text(json.dumps({"chat_template": stated, "bos_token": {"content": "<s>"}, "eos_token": "</s>"}))
        assert find_template(tmp_path) == wanted
    assert special_tokens(tmp_path) == TOKENS
    (tmp_path / "chat_template.jinja").write_text("own")
    assert find_template(tmp_path) == "own"
    config.write_text("[")
    with pytest.raises(ZooError, match="not JSON"):
        special_tokens(tmp_path)
