"""What the page shows when there is no answer: a lost network, a failing model, a busy server, a wrong key."""

from __future__ import annotations

import json
import threading
import urllib.request
from pathlib import Path

from tests.server.browser import Browser, eventually
from tests.server.scripted import Script
from tests.server.scripted import script as script
from tests.server.serving import Served, serving
from tests.server.talking import MARKS, Talk
from tests.server.talking import base as base
from tests.server.talking import talk as talk
from tests.server.talking import window as window

pytestmark = MARKS


def cut(served: Served) -> None:
    """Cut every connection of a server, as a network does."""
    loop_thread_done = threading.Event()
    connections = list(served.server.server_state.connections)

    def abort() -> None:
        for one in connections:
            one.transport.abort()
        loop_thread_done.set()

    connections[0].loop.call_soon_threadsafe(abort)
    assert loop_thread_done.wait(10)


def test_the_network_goes_in_the_middle_of_an_answer(talk: Talk) -> None:
    window = talk.window
    talk.script.say("Half of ", ..., "an answer")
    talk.ask("Tell me")
    window.wait("document.querySelector('.reply .words').textContent === 'Half of '")
    cut(talk.served)
    window.wait("document.querySelector('.trouble')")
    assert "connection was lost" in window.text(".trouble")
    assert window.role(".trouble")[0] == "alert"
    assert talk.last().startswith("Half of ")
    talk.script.say("A whole answer")
    window.click(".trouble button")
    assert talk.answered() == "A whole answer"
    assert talk.script.prompts[-1] == talk.script.prompts[-2]


def test_a_model_that_fails(talk: Talk) -> None:
    window = talk.window
    talk.script.say("Well, ", 0.1, RuntimeError("out of memory at /home/someone"))
    talk.ask("Why?")
    window.wait("document.querySelector('.trouble')")
    assert "see the server's log" in window.text(".trouble")
    assert "/home/someone" not in window.shown()
    # What got no answer at all is not part of the conversation that follows.
    window.click("#fresh")
    talk.script.say(RuntimeError("again"))
    talk.ask("First question")
    window.wait("document.querySelector('.trouble')")
    talk.script.say("Yes.")
    talk.ask("Second question")
    assert talk.answered() == "Yes."
    assert "First question" not in talk.script.prompts[-1]
    assert window.run("return document.querySelectorAll('.trouble button').length") == 0


def test_a_busy_server_says_when_to_try_again(script: Script, package: Path, window: Browser) -> None:
    with serving([package], slots=1, queue=0) as served:
        talk = Talk(window, served, script)
        script.say(...)
        body = json.dumps({"model": "zoo-tiny", "prompt": "x"}).encode()
        request = urllib.request.Request(f"{served.url}/v1/completions", body, {"content-type": "application/json"})
        other = threading.Thread(target=lambda: urllib.request.urlopen(request, timeout=30).read(), daemon=True)
        other.start()
        eventually(lambda: script.tickets)
        talk.ask("Hello")
        window.wait("document.querySelector('.trouble')")
        assert "busy" in window.text(".trouble")
        assert window.run("return document.querySelector('.trouble button').disabled")
        assert " s" in window.text(".trouble button")
        script.gate.set()
        other.join(10)
        script.lines = ["Now I can."]
        window.wait("!document.querySelector('.trouble button').disabled")
        window.click(".trouble button")
        assert talk.answered() == "Now I can."


def test_a_server_with_a_key(script: Script, package: Path, window: Browser) -> None:
    with serving([package], api_key="sesame") as served:
        window.size(1280, 800)
        window.open(served.url)
        window.wait("document.activeElement.id === 'key'")
        assert "asks for a key" in window.text("#hello")
        assert window.run("return document.getElementById('key').type") == "password"
        for wrong in ("open", "schlüssel", "ключ"):
            window.run(
                "document.getElementById('hello-title').textContent = ''; document.getElementById('key').select()"
            )
            window.type(wrong, "<enter>")
            window.wait("document.getElementById('hello').textContent.includes('does not open it')")
        window.run("document.getElementById('key').select()")
        window.type("sesame", "<enter>")
        window.wait("document.activeElement.id === 'prompt'")
        script.say("Welcome.")
        window.type("Hello", "<enter>")
        window.wait("document.querySelector('.again')")
        assert window.text(".reply .words") == "Welcome."
        kept = "return [location.href, document.cookie, sessionStorage.length, history.state]"
        assert window.run(kept) == [f"{served.url}/", "", 0, None]
        stored = window.run("return JSON.stringify(localStorage)")
        assert "Welcome." in stored
        assert "sesame" not in stored
        window.open(served.url)
        window.wait("document.activeElement.id === 'key'")
        assert window.run("return document.getElementById('key').value") == ""


def test_a_server_that_is_gone(script: Script, package: Path, window: Browser) -> None:
    with serving([package]) as served:
        talk = Talk(window, served, script)
    talk.ask("Anyone?")
    window.wait("document.querySelector('.trouble')")
    assert "cannot be reached" in window.text(".trouble")
