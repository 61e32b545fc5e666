"""A plugin that is written from a guide installs with its data: its wheel is built and looked into."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs.blocks import blocks
from tests.wheels import build_wheels

DOCS = Path(__file__).parents[2] / "docs"
GUIDES = sorted(page for kind in ("tutorials", "guides") for page in (DOCS / kind).glob("*.md"))
PLUGINS = [page for page in GUIDES if any(block.file == "pyproject.toml" for block in blocks(page))]


@pytest.mark.slow
def test_the_wheel_of_a_guide_holds_what_it_wrote(tmp_path: Path) -> None:
    files = {page: write_plugin(page, tmp_path / page.stem) for page in PLUGINS}
    for page, wheel in zip(files, build_wheels([tmp_path / page.stem for page in files]), strict=True):
        source = "".join(text for name, text in files[page].items() if name.endswith(".py") and "test_" not in name)
        for name in files[page]:
            if name.endswith((".yaml", ".jsonl")) and f'"{Path(name).name}"' in source:
                assert name in wheel.namelist(), f"{page.stem}: {name} is registered by path and is not in the wheel"


def write_plugin(page: Path, project: Path) -> dict[str, str]:
    """Write the files that a guide has a plugin of, the last ``pyproject.toml`` the last of them; return them."""
    written = [block for block in blocks(page) if block.file is not None]
    last = max(index for index, block in enumerate(written) if block.file == "pyproject.toml")
    files = {str(block.file): block.text for block in written[: last + 1]}
    for name, text in files.items():
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text(text, encoding="utf-8")
    return files
