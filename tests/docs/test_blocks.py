"""Every code block of the guides runs, or says why not."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.docs.blocks import SHOWN, blocks, run_page

ROOT = Path(__file__).parents[2]
GUIDES = sorted(page for kind in ("tutorials", "guides") for page in (ROOT / "docs" / kind).glob("*.md"))
RUNNING = [
    page
    for page in (ROOT / "README.md", *GUIDES)
    if any(one.language in ("bash", "python") and one.reason is None for one in blocks(page))
]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.glob("*.md")), *sorted(DOCS.glob("explanation/*.md")), *GUIDES]
LINK = re.compile(r"\]\(([^)#\s]+)")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_block_runs_or_says_why_not(page: Path) -> None:
    for block in blocks(page):
        allowed = block.language in SHOWN | {"bash", "python"} or block.file or block.reason
        assert allowed, f"{page.name}:{block.line}: a block of {block.language} that nobody runs, without a reason"


@pytest.mark.slow
@pytest.mark.parametrize("page", RUNNING, ids=lambda page: page.stem)
def test_a_guide_does_what_it_says(page: Path, tmp_path: Path) -> None:
    assert run_page(page, tmp_path) > 0


@pytest.mark.parametrize("page", [*PAGES, *sorted(DOCS.glob("reference/*.md"))], ids=lambda page: page.stem)
def test_every_link_to_a_file_leads_to_one(page: Path) -> None:
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.S | re.M)
    links = {link for link in LINK.findall(text) if "://" not in link}
    missing = {link for link in links if not (page.parent / link).exists()}
    assert missing - {"api.md"} == set()  # the site generates reference/api.md
