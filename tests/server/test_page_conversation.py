"""A conversation on the page in headless Chromium: streaming, stopping, again, other models, sampling."""

from __future__ import annotations

from typing import Any

from tests.server.browser import Browser, eventually
from tests.server.scripted import script as script
from tests.server.serving import Served
from tests.server.talking import MARKS, Talk
from tests.server.talking import base as base
from tests.server.talking import talk as talk
from tests.server.talking import window as window

pytestmark = MARKS


def test_a_conversation(talk: Talk) -> None:
    window = talk.window
    talk.script.say("Good ", 0.05, "**morning", 0.05, "**", ".")
    talk.ask("Hello?")
    assert talk.answered() == "Good morning."
    assert window.text(".reply strong") == "morning"
    foot = window.text(".reply .under")
    assert foot.startswith("4 tokens, ")
    assert "tokens/s" in foot
    talk.script.say("Fine.")
    talk.ask("And how are you?")
    window.wait("document.querySelectorAll('.reply').length === 2 && !document.body.classList.contains('busy')")
    for said in ("Hello?", "Good **morning**.", "And how are you?"):
        assert said in talk.script.prompts[-1]
    # Only the last answer can be made again, and it is asked for as it was.
    assert window.run("return document.querySelectorAll('.again').length") == 1
    talk.script.say("Splendid.")
    window.click(".again")
    window.wait("[...document.querySelectorAll('.reply .words')].at(-1).textContent === 'Splendid.'")
    assert talk.script.prompts[-1] == talk.script.prompts[-2]
    window.click("#fresh")
    assert window.run("return document.querySelectorAll('article').length") == 0
    talk.script.say("Who?")
    talk.ask("Do you remember me?")
    talk.answered()
    assert "Hello?" not in talk.script.prompts[-1]
    assert window.logged() == []


def test_it_waits_for_the_first_token_until_it_is_there(talk: Talk) -> None:
    window = talk.window
    talk.script.say(0.3, "one", ..., " two")
    talk.ask("Count")
    window.wait("document.querySelector('.reply .under')?.textContent === 'waiting for the first token'")
    window.wait("document.querySelector('.reply .words').textContent === 'one'")
    assert window.text(".reply .under") == ""
    talk.script.gate.set()
    assert talk.answered() == "one two"


def test_it_streams_and_stops(talk: Talk) -> None:
    window = talk.window
    talk.script.say("one ", "two ", ..., "three")
    talk.ask("Count")
    window.wait("document.querySelector('.reply .words').textContent === 'one two '")
    assert window.run("return document.querySelector('.reply').getAttribute('aria-busy')") == "true"
    assert window.run("return document.getElementById('send').hidden")
    window.click("#stop")
    assert talk.answered() == "one two "
    assert "stopped by you" in window.text(".reply .under")
    assert window.run("return document.activeElement.id") == "prompt"
    # The server heard it, and the model stopped.
    eventually(lambda: talk.script.tickets[-1].cancelled.is_set())
    assert talk.served.events("request")[-1]["outcome"] == "disconnected"
    talk.script.say("four", ...)
    talk.ask("Go on")
    window.wait("document.body.innerText.includes('four')")
    window.type("<escape>")
    talk.answered()
    assert "one two" in talk.script.prompts[-1]


def test_sampling_reaches_the_model(talk: Talk) -> None:
    window = talk.window
    for name, value in {
        "temperature": "0.25", "top_p": "0.5", "top_k": "7", "repetition_penalty": "1.1", "max_tokens": "33",
        "seed": "11", "stops": "END\nSTOP", "system": "Be brief.",
    }.items():  # fmt: skip
        window.run("document.getElementById(arguments[0]).value = arguments[1]", name, value)
    talk.ask("Hello")
    talk.answered()
    limits, sampling = talk.script.samplings[-1]
    assert (sampling.temperature, sampling.top_p, sampling.top_k) == (0.25, 0.5, 7)
    assert (sampling.repetition_penalty, sampling.seed) == (1.1, 11)
    assert (limits.max_new_tokens, limits.stop) == (33, ("END", "STOP"))
    assert "Be brief." in talk.script.prompts[-1]
    # What is out of range is not sent.
    window.run("document.getElementById('temperature').value = '9'")
    talk.ask("Again")
    assert window.run("return document.querySelectorAll('.reply').length") == 1
    assert window.run("return document.activeElement.id") == "temperature"


def test_a_base_model_goes_on_with_a_text(talk: Talk) -> None:
    window = talk.window
    talk.choose("bee-base")
    assert window.text("#prompt-label") == "Text to go on with"
    assert not window.run("return document.getElementById('system').checkVisibility()")
    talk.script.say(" there was a *bee*.\n\n# Not a heading", finish="length")
    talk.ask("Once upon a time")
    talk.answered()
    assert talk.script.prompts[-1].endswith("Once upon a time")
    assert talk.script.samplings[-1][0].max_new_tokens == 128  # a quarter of its context
    assert window.run("return document.querySelector('.reply .words').textContent") == talk.script.lines[0]
    assert window.run("return document.querySelectorAll('.reply .words :is(em, h3)').length") == 0
    window.run(
        "[...document.querySelectorAll('.under button')].find(one => one.textContent === 'Go on from here').click()"
    )
    assert window.run("return document.getElementById('prompt').value") == "Once upon a time" + talk.script.lines[0]
    # To a chat model a text is no conversation.
    talk.choose("zoo-tiny")
    assert window.run("return document.querySelectorAll('article').length") == 0


def test_the_card_of_the_chosen_model(talk: Talk) -> None:
    window = talk.window
    assert window.text("#card .name") == "zoo-tiny"
    shown = window.text("#card")
    for words in ("passed", "zoo_tiny_choice", "apache-2.0", "commercial use", "512 tokens", "int8"):
        assert words in shown
    talk.choose("bee-base")
    assert window.text("#card .name") == "bee-base"
    assert "use unstated" in window.text("#card")


def test_the_answer_is_the_model_s_own(served: Served, client: Any, window: Browser) -> None:
    window.open(served.url)
    window.wait("!document.getElementById('send').disabled")
    window.run("document.getElementById('temperature').value = '0'; document.getElementById('max_tokens').value = '24'")
    window.click("#prompt")
    window.type("What do bees eat?", "<enter>")
    window.wait("document.querySelector('.again')")
    messages = [{"role": "user", "content": "What do bees eat?"}]
    wanted = client.chat.completions.create(model="zoo-tiny", messages=messages, max_tokens=24, temperature=0)
    shown = window.run("return document.querySelector('.reply .words').textContent")
    assert shown == wanted.choices[0].message.content.strip()
    assert f"{wanted.usage.completion_tokens} tokens, " in window.text(".reply .under")
