"""Conversations on the page: kept, opened, renamed, deleted, exported, imported; messages asked in other words."""

from __future__ import annotations

import json

from tests.server.scripted import script as script
from tests.server.talking import MARKS, Talk
from tests.server.talking import base as base
from tests.server.talking import talk as talk
from tests.server.talking import window as window

pytestmark = MARKS

TITLES = "return [...document.querySelectorAll('#talks .talk')].map(one => one.textContent)"
ANSWERS = "return [...document.querySelectorAll('.reply .words')].map(one => one.textContent)"
ASKED = "return [...document.querySelectorAll('.you .words')].map(one => one.textContent)"
PRESS = "[...document.querySelectorAll(arguments[0])].find(one => one.textContent === arguments[1]).click()"


def two(talk: Talk) -> None:
    """Hold a conversation of two turns."""
    talk.script.say("One.")
    talk.ask("First")
    talk.answered()
    talk.script.say("Two.")
    talk.ask("Second")
    talk.window.wait("document.querySelectorAll('.reply').length === 2 && !document.body.classList.contains('busy')")


def test_a_conversation_is_there_when_the_page_is_opened_again(talk: Talk) -> None:
    window = talk.window
    two(talk)
    window.open(talk.served.url)
    window.wait("!document.getElementById('send').disabled")
    assert window.run(TITLES) == ["First"]
    assert window.run(ASKED) == []
    window.click("#talks .talk")
    assert (window.run(ASKED), window.run(ANSWERS)) == (["First", "Second"], ["One.", "Two."])
    talk.script.say("Three.")
    talk.ask("Third")
    window.wait("document.querySelectorAll('.reply').length === 3 && !document.body.classList.contains('busy')")
    for said in ("First", "One.", "Second", "Two.", "Third"):
        assert said in talk.script.prompts[-1]
    window.click("#fresh")
    talk.script.say("Hello.")
    talk.ask("Another")
    talk.answered()
    assert window.run(TITLES) == ["Another", "First"]


def test_a_message_is_asked_in_other_words_and_both_stay(talk: Talk) -> None:
    window = talk.window
    two(talk)
    window.run(PRESS, ".edit", "Edit")
    assert window.run("return document.getElementById('prompt').value") == "First"
    window.run("document.getElementById('prompt').value = ''")
    talk.script.say("Another one.")
    talk.ask("First, again")
    window.wait("document.querySelectorAll('.reply').length === 1 && !document.body.classList.contains('busy')")
    assert (window.run(ASKED), window.run(ANSWERS)) == (["First, again"], ["Another one."])
    assert "Second" not in talk.script.prompts[-1]
    assert "2 of 2" in window.text(".you .under")
    window.run("document.querySelector('[aria-label=\"Earlier words\"]').click()")
    assert (window.run(ASKED), window.run(ANSWERS)) == (["First", "Second"], ["One.", "Two."])
    # Escape leaves the message as it was.
    window.run(PRESS, ".edit", "Edit")
    window.type("<escape>")
    assert window.run("return document.getElementById('prompt').value") == ""
    assert not window.run("return document.getElementById('cancel').checkVisibility()")


def test_conversations_are_renamed_and_deleted(talk: Talk) -> None:
    window = talk.window
    two(talk)
    window.run(PRESS, "#talks button", "Rename")
    window.type(" <b>bold</b>", "<enter>")
    assert window.run(TITLES) == [" <b>bold</b>".strip()]
    window.run(PRESS, "#talks button", "Delete")
    assert window.run(TITLES) == ["<b>bold</b>"]  # once is not enough
    window.run(PRESS, "#talks button", "Really?")
    assert window.run(TITLES) == []
    assert window.run(ASKED) == []


def test_conversations_travel_as_a_file(talk: Talk) -> None:
    window = talk.window
    two(talk)
    text = window.run("return import('./static/store.js').then(store => store.exported())")
    kept = json.loads(text)
    assert kept["format"] == "zoo.conversations"
    assert [turn["answer"] for turn in kept["conversations"][0]["turns"]] == ["One.", "Two."]
    hostile = {"conversations": [{"title": "<img src=x onerror=alert(1)>", "turns": [
        {"parent": -1, "prompt": "<script>1</script>", "answer": "**good**", "reasoning": "Hm", "model": 3},
        {"parent": 99, "prompt": None, "answer": ["x"]}, "odd", None,
    ]}, 7, None]}  # fmt: skip
    put = """
        const file = new File([arguments[0]], 'talks.json', {type: 'application/json'});
        const held = new DataTransfer();
        held.items.add(file);
        const input = document.getElementById('file');
        input.files = held.files;
        input.dispatchEvent(new Event('change'));
    """
    window.run(put, json.dumps(hostile))
    window.wait("document.getElementById('status').textContent === '1 conversation imported'")
    window.run(put, text)
    window.wait("document.querySelectorAll('#talks .talk').length === 3")
    window.run("[...document.querySelectorAll('#talks .talk')].find(one => one.textContent.includes('img')).click()")
    assert window.run("return document.querySelector('.you').parentElement.querySelectorAll('img, script').length") == 0
    assert window.run("return document.querySelectorAll('.reply').length") >= 1
    for wrong in ("{", "[1]", '{"a": 1}'):
        window.run("document.getElementById('status').textContent = ''")
        window.run(put, wrong)
        window.wait("document.getElementById('status').textContent !== ''")
    assert window.logged() == []


def test_thoughts_are_folded(talk: Talk) -> None:
    window = talk.window
    talk.script.say("<thi", "nk>Hm, ", "**so**.</thi", "nk>\n\nYes.")
    talk.ask("Well?")
    assert talk.answered() == "Yes."
    assert window.text(".thoughts summary") == "Thoughts"
    assert not window.run("return document.querySelector('.musing').checkVisibility()")
    window.click(".thoughts summary")
    assert window.text(".musing") == "Hm, so."
    talk.script.say("Good.")
    talk.ask("Then?")
    window.wait("document.querySelectorAll('.reply').length === 2 && !document.body.classList.contains('busy')")
    assert "Hm" not in talk.script.prompts[-1]


MARKDOWN = """# Head

| Name | Count | Note |
|:-----|------:|:----:|
| `a|b` | 1 | x \\| y |
| <b>c</b> | 22 | **z** |

---

- [ ] open
- [x] done _well_
  - inner

See [the docs](https://example.org/a_b_c?x=1) or https://example.com/d_e. No [this](javascript:alert(1)) or ![i](data:).

The sum $a_1 * b_2 * c$ and \\(x_i_j\\) and

$$
\\sum_{i} x_i * y_i * z_i
$$

costs $5 and $6. ~~Gone~~.

```python
print("hi")  # **not bold**
```
"""


def test_markdown(talk: Talk) -> None:
    window = talk.window
    talk.script.say(*(MARKDOWN[at : at + 11] for at in range(0, len(MARKDOWN), 11)))
    talk.ask("Show")
    answer = talk.answered()
    heads = window.run("return [...document.querySelectorAll('.words th')].map(one => one.textContent)")
    cells = window.run("return [...document.querySelectorAll('.words td')].map(one => one.textContent)")
    assert (heads, cells) == (["Name", "Count", "Note"], ["a|b", "1", "x | y", "<b>c</b>", "22", "z"])
    assert window.run("return getComputedStyle(document.querySelectorAll('.words td')[1]).textAlign") == "right"
    assert window.run("return document.querySelectorAll('.words hr').length") == 1
    tasks = window.run("return [...document.querySelectorAll('.words .task')].map(one => one.firstChild.textContent)")
    assert tasks == ["☐ open", "☑ done "]
    links = window.run("return [...document.querySelectorAll('.words a')].map(one => [one.textContent, one.href])")
    assert links == [
        ["the docs", "https://example.org/a_b_c?x=1"],
        ["https://example.com/d_e", "https://example.com/d_e"],
    ]
    for words in ("(example.org)", "[this](javascript:alert(1))", "$a_1 * b_2 * c$", "x_i_j", "costs $5 and $6."):
        assert words in answer
    assert window.run("return [...document.querySelectorAll('.words em')].map(one => one.textContent)") == ["well"]
    assert window.run("return document.querySelector('.words .code').dataset.language") == "python"
    assert window.run("return document.querySelector('.words .code code').textContent") == 'print("hi")  # **not bold**'
    window.cdp("Browser.grantPermissions", permissions=["clipboardReadWrite", "clipboardSanitizedWrite"])
    window.click(".code .copy")
    window.wait("document.querySelector('.copy').dataset.said !== 'Copy'")
    assert window.logged() == []
