"""The page by keyboard, by screen reader, in both colour schemes and on a phone."""

from __future__ import annotations

import pytest

from tests.server.browser import eventually
from tests.server.scripted import script as script
from tests.server.talking import MARKS, Talk
from tests.server.talking import base as base
from tests.server.talking import talk as talk
from tests.server.talking import window as window

pytestmark = MARKS


CONTRAST = """
const linear = v => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4;
const luminance = colour => colour.slice(0, 3).map(v => linear(v / 255))
    .reduce((sum, v, i) => sum + v * [.2126, .7152, .0722][i], 0);
const colour = text => text.match(/[\\d.]+/g).map(Number);
const ground = one => { for (; one; one = one.parentElement) { const c = colour(getComputedStyle(one).backgroundColor);
    if (c.length < 4 || c[3] > .99) return c; } return [255, 255, 255]; };
const bad = [];
for (const one of document.querySelectorAll('body *')) {
  const own = [...one.childNodes].some(node => node.nodeType === 3 && node.data.trim());
  if (!own || !one.checkVisibility() || one.closest(':disabled') || one.localName === 'option') continue;
  const [light, dark] = [colour(getComputedStyle(one).color), ground(one)].map(luminance).sort((a, b) => b - a);
  const ratio = (light + .05) / (dark + .05);
  if (ratio < 4.5) bad.push([one.localName, one.className, one.textContent.slice(0, 20), ratio.toFixed(2)]);
}
return bad;
"""


def test_the_keyboard_reaches_everything_in_order(talk: Talk) -> None:
    window = talk.window
    talk.script.say("```\ncode\n```\nDone.")
    talk.ask("Hello")
    talk.answered()
    window.run("document.querySelector('.skip').focus()")
    seen = []
    while window.run("return document.activeElement !== document.body"):  # past the last one, the focus leaves the page
        place = window.run("const one = document.activeElement; return one.id || one.textContent.trim()")
        shown = window.run("return getComputedStyle(document.activeElement).outlineStyle")
        assert shown != "none", f"nothing shows that the focus is on {place}"
        assert seen.count(place) < 2, f"the focus goes in circles: {seen}"
        seen.append(place)
        window.type("<tab>")
    for wanted in ("model", "fresh", "talk", "Copy", "Regenerate", "prompt", "send", "temperature", "key"):
        assert wanted in seen, seen
    assert seen.index("model") < seen.index("Copy") < seen.index("prompt") < seen.index("temperature")
    window.click("#prompt")
    window.type("one line", "<shift>", "<enter>", "another")
    assert window.run("return document.getElementById('prompt').value") == "one line\nanother"
    window.type("<enter>")
    eventually(lambda: any("one line\nanother" in prompt for prompt in talk.script.prompts))


def test_names_and_roles_for_a_screen_reader(talk: Talk) -> None:
    window = talk.window
    talk.script.say("Hello.")
    talk.ask("Hi")
    talk.answered()
    assert window.role("#talk") == ("log", "Conversation")
    assert window.role("#prompt") == ("textbox", "Message")
    assert window.role("#model") == ("combobox", "Model")
    assert window.role("#panel") == ("complementary", "Settings and model card")
    assert window.role(".you") == ("article", "You")
    assert window.role(".reply") == ("article", "zoo-tiny")
    assert window.role("#status")[0] == "status"
    assert window.role("#temperature") == ("spinbutton", "Temperature")
    named = "return [...document.querySelectorAll('input, select, textarea')].every(one => one.labels.length === 1)"
    assert window.run(named)
    levels = "return [...document.querySelectorAll('h1, h2, h3')].map(one => one.localName)"
    assert window.run(levels)[0] == "h1"
    assert window.text("#status") == "Done"


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_colours_can_be_read(talk: Talk, dark: bool) -> None:
    window = talk.window
    window.dark(dark)
    talk.script.say("> quoted `code`\n\nText ", 0.05, RuntimeError("x"))
    talk.ask("Hi")
    window.wait("document.querySelector('.trouble')")
    window.run("document.querySelectorAll('details').forEach(one => { one.open = true; })")
    assert window.run(CONTRAST) == []


def test_a_phone(talk: Talk) -> None:
    window = talk.window
    window.size(360, 740, phone=True)
    over = "return document.documentElement.scrollWidth - innerWidth"
    assert window.run(over) == 0
    assert not window.run("return document.getElementById('panel').checkVisibility()")
    window.click("#toggle")
    assert window.run("return document.getElementById('toggle').getAttribute('aria-expanded')") == "true"
    assert window.run("return document.getElementById('panel').checkVisibility()")
    assert window.run("return document.getElementById('panel').contains(document.activeElement)")
    assert window.run(over) == 0
    window.type("<escape>")
    assert window.run("return document.activeElement.id") == "toggle"
    talk.script.say("Hello there.")
    talk.ask("Hi")
    talk.answered()
    assert window.run(over) == 0
    heights = (
        "return [...document.querySelectorAll('#send, #toggle, #fresh')].map(one => one.getBoundingClientRect().height)"
    )
    assert min(window.run(heights)) >= 36
    window.run("document.getElementById('temperature').value = '9'")
    talk.ask("Again")
    window.wait("document.activeElement.id === 'temperature'")
