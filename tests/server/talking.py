"""The page as a user has it before them: over the real server and a model that says what a test wants."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import zoo
from tests.server.browser import CHROMIUM, DRIVER, Browser, browser
from tests.server.scripted import Script, base_checkpoint
from tests.server.serving import Served, serving

MARKS = [
    pytest.mark.browser,
    pytest.mark.skipif(
        CHROMIUM is None or DRIVER is None,
        reason="needs Debian's chromium and its driver: apt-get install chromium chromium-driver",
    ),
]


class Talk:
    """What a user does on the page."""

    def __init__(self, window: Browser, served: Served, script: Script) -> None:
        self.window, self.served, self.script = window, served, script
        window.dark(False)
        window.size(1280, 800)
        window.open(served.url)
        window.wait("!document.getElementById('send').disabled")

    def ask(self, text: str) -> None:
        """Type a message and send it."""
        self.window.click("#prompt")
        self.window.type(text, "<enter>")

    def answered(self) -> str:
        """Wait for the end of the answer and read it."""
        self.window.wait("!document.body.classList.contains('busy') && document.querySelector('.reply .under button')")
        return self.last()

    def last(self) -> str:
        """Read the last answer as it stands."""
        return str(self.window.run("return [...document.querySelectorAll('.reply .words')].at(-1).textContent"))

    def choose(self, model: str) -> None:
        """Choose a model as a keyboard does."""
        self.window.run(
            "const s = document.getElementById('model'); s.value = arguments[0];"
            "s.dispatchEvent(new Event('change', {bubbles: true}))",
            model,
        )


@pytest.fixture(scope="module")
def window() -> Iterator[Browser]:
    with browser() as one:
        yield one


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A package of a model without a chat template."""
    folder = tmp_path_factory.mktemp("base")
    return zoo.build(str(base_checkpoint(folder / "bee-base")), "int8", output=folder / "package").path


@pytest.fixture
def talk(script: Script, package: Path, base: Path, window: Browser) -> Iterator[Talk]:
    """The page over a chat model and a base model."""
    with serving([package, base]) as served:
        yield Talk(window, served, script)
        script.gate.set()
