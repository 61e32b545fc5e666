"""The table in headless Chromium, opened from a file: search, filters, sorting, keyboard, phone and print."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--hide-scrollbars",
)  # fmt: skip

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="needs Debian's chromium: apt-get install chromium"),
]


@pytest.fixture
def ask(tmp_path: Path) -> Callable[..., Any]:
    """Open a page, run a script in it as a user's hand would, and return what it answers."""

    def run(page: Path, script: str, *flags: str) -> Any:
        copy = page.with_name(f"asked-{page.name}")
        probe = f"""<script>addEventListener("load", () => {{
            const answer = (() => {{ {script} }})();
            const pre = document.createElement("pre");
            pre.id = "answer";
            pre.textContent = JSON.stringify(answer);
            document.body.append(pre);
        }});</script></body>"""
        copy.write_text(page.read_text(encoding="utf-8").replace("</body>", probe), encoding="utf-8")
        done = subprocess.run(
            [str(CHROMIUM), *FLAGS, f"--user-data-dir={tmp_path / 'profile'}", *flags, "--dump-dom", copy.as_uri()],
            capture_output=True, text=True, timeout=120, check=True,
        )  # fmt: skip
        found = re.search(r'<pre id="answer">(.*?)</pre>', done.stdout, re.S)
        assert found is not None, done.stdout[-2000:]
        return json.loads(html.unescape(found.group(1)))

    return run


SHOWN = (
    "const shown = () => [...document.querySelectorAll('#models tbody tr:not([hidden]) th a')].map(a => a.textContent);"
)
TYPE = """const type = (id, value) => { const field = document.getElementById(id); field.value = value;
    field.dispatchEvent(new Event('input', {bubbles: true})); };"""


def test_search_and_filters(make, ask) -> None:
    answer = ask(
        make() / "index.html",
        f"""{SHOWN} {TYPE}
        const said = () => document.getElementById('found').textContent;
        const seen = {{all: shown().length, hidden: document.getElementById('filters').hidden}};
        type('search', '70b CHAT'); seen.search = shown(); seen.said = said();
        type('search', ''); type('attention', 'GQA'); seen.attention = shown();
        type('attention', ''); type('family', 'llama2'); type('use', 'commercial'); seen.family = shown().length;
        const memory = () => document.querySelector('#models tbody td[data-memory]:nth-of-type(8)').textContent;
        const before = memory(); type('precision', 'int4'); seen.changed = memory() !== before;
        type('search', 'no such model'); seen.none = said();
        return seen;""",
    )
    assert answer["hidden"] is False
    assert answer["search"] == ["llama2-70b-chat"]
    assert answer["said"] == f"1 of {answer['all']} models match"
    assert {"llama2-70b", "llama2-70b-chat"} <= set(answer["attention"])
    assert "llama2-7b" not in answer["attention"]
    assert answer["family"] == 6
    assert answer["changed"] is True
    assert answer["none"].startswith("0 of ")


def test_sorting_by_the_headers_buttons(make, ask) -> None:
    answer = ask(
        make() / "index.html",
        f"""{SHOWN}
        const heads = [...document.querySelectorAll('#models thead th')];
        const column = heads.findIndex(one => one.textContent.startsWith('Parameters'));
        const button = heads[column].querySelector('button');
        button.focus(); button.click();
        const up = [heads[column].getAttribute('aria-sort'), shown()];
        button.click();
        return {{up, down: [heads[column].getAttribute('aria-sort'), shown()],
                 focused: document.activeElement === button,
                 buttons: heads.every(one => one.querySelector('button'))}};""",
    )
    assert answer["up"][0] == "ascending"
    assert answer["up"][1][0] == "zoo-tiny"
    assert answer["up"][1][-1].startswith("llama2-70b")
    assert answer["down"][0] == "descending"
    assert answer["down"][1][0].startswith("llama2-70b")
    assert answer["focused"]
    assert answer["buttons"]


def test_names_for_a_screen_reader_and_keys(make, ask) -> None:
    answer = ask(
        make() / "index.html",
        """document.dispatchEvent(new KeyboardEvent('keydown', {key: '/', bubbles: true, cancelable: true}));
        const named = [...document.querySelectorAll('input, select')].every(one => one.labels.length === 1);
        return {named, focused: document.activeElement.id, 
                live: document.getElementById('found').getAttribute('aria-live'),
                caption: !!document.querySelector('#models caption').textContent,
                scopes: [...document.querySelectorAll('th')].every(one => one.scope)};""",
    )
    assert answer == {"named": True, "focused": "search", "live": "polite", "caption": True, "scopes": True}


@pytest.mark.parametrize("page", ["index.html", "models/llama2/llama2-70b.html", "guide.html"])
def test_a_phone_scrolls_one_way(make, ask, page: str) -> None:
    width = "return [document.documentElement.scrollWidth, innerWidth];"
    wide, window = ask(make() / page, width, "--window-size=500,900")
    assert wide <= window


def test_it_prints(make, tmp_path: Path) -> None:
    pdf = tmp_path / "page.pdf"
    page = make() / "models/llama2/llama2-70b.html"
    subprocess.run(
        [str(CHROMIUM), *FLAGS, f"--user-data-dir={tmp_path / 'profile'}", f"--print-to-pdf={pdf}", page.as_uri()],
        capture_output=True, timeout=120, check=True,
    )  # fmt: skip
    assert pdf.read_bytes().startswith(b"%PDF")
