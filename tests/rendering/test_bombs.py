"""Templates that hang or grow inside one operation: a line in time, and the next conversation is answered."""

from __future__ import annotations

import time

import pytest

from zoo.engine import chat
from zoo.engine.chat import render
from zoo.errors import ZooError
from zoo.worker.process import Overrun, Worker

pytestmark = pytest.mark.attack("s03_template_bombs.py", "a chat template that hangs or takes gigabytes")

TALK = [{"role": "user", "content": "hi"}]
GOOD = "{% for m in messages %}{{ m.content }}{% endfor %}"

LISTS = "{% set n=namespace(l=[]) %}{% for i in range(90000) %}{% set n.l="
HANGS = {
    "a text of nested lists": "{% set a=[0]*1000000 %}{% set b=[a]*1000000 %}{{ b }}",
    "a comparison of nested lists": "{% set a=[0]*3000000 %}{% set c=[0]*3000000 %}{{ [a]*3000000 == [c]*3000000 }}",
    "json of nested lists": "{% set a=[0]*90000 %}{{ ([a]*1000)|tojson|length }}",
    "a wrapped word": "{{ ('b'*2500000)|wordwrap(1)|length }}",
    "many copies": "{% set x='b'*3000000 %}{% for i in range(70000) %}{% set y=x|lower %}{% endfor %}",
    "filler text": "{{ lipsum(n=9000,min=90,max=9000)|length }}",
}
REPEATED = dict.fromkeys(("a text of nested lists", "json of nested lists", "many copies"), pytest.mark.exhaustive)
"""Hanging is ended from outside, whatever hangs."""
GROWS = {
    "lists in lists": LISTS + "[n.l, [0]*3000000] %}{% endfor %}",
    "sums of lists": LISTS + "n.l + [[0]*3000000] %}{% endfor %}",
    "a wide format": "{{ ('{:88888}'*90000).format(*([1]*90000))|length }}",
    "a wide date": "{{ strftime_now('%88888Y'*400000)|length }}",
    "indented json": LISTS.replace("90000", "290") + "[n.l] %}{% endfor %}{{ n.l|tojson(indent=3000000)|length }}",
}
CRASHES = {
    "deep parentheses": "{{ " + "(" * 3000 + "1" + ")" * 3000 + " }}",
    "deep lists": "{{ " + "[" * 5000 + "1" + "]" * 5000 + " }}",
    "deep blocks": "{% if 1 %}" * 3000 + "x" + "{% endif %}" * 3000,
    "a chain of filters": "{{ 1" + "|string" * 20000 + " }}",
}


@pytest.fixture
def quick(monkeypatch) -> Worker:
    """A worker of the same kind with a shorter time, so that the tests are short."""
    worker = Worker(chat.RENDER_MEMORY, 1.5, ("jinja2", "markupsafe"))
    monkeypatch.setattr(chat, "shared_worker", lambda: worker)
    return worker


@pytest.mark.attack("s03_template_bombs.py", "a chat template that hangs, grows or crashes inside one operation")
@pytest.mark.parametrize("name", [pytest.param(name, marks=REPEATED.get(name, ())) for name in HANGS | GROWS | CRASHES])
def test_a_bomb_is_one_line_and_the_next_is_answered(name, quick) -> None:
    begun = time.monotonic()
    with pytest.raises(ZooError) as caught:
        render((HANGS | GROWS | CRASHES)[name], TALK, {})
    assert time.monotonic() - begun < 6
    assert "the chat template" in str(caught.value)
    assert "\n" not in str(caught.value)
    if name in HANGS:
        assert isinstance(caught.value, Overrun)
    assert render(GOOD, TALK, {}) == "hi"


def test_the_worker_is_reused_and_costs_little() -> None:
    render(GOOD, TALK, {})
    process = chat.shared_worker()._process
    assert process is not None
    times = []
    for _ in range(20):
        begun = time.perf_counter()
        assert render(GOOD, [{"role": "user", "content": "x" * 2000}], {}) == "x" * 2000
        times.append(time.perf_counter() - begun)
    assert sorted(times)[10] < 0.002
    assert chat.shared_worker()._process is process
