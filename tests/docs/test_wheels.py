"""A plugin that is written from a guide installs with its data: its wheel is built and looked into."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.docs.blocks import blocks

DOCS = Path(__file__).parents[2] / "docs"
GUIDES = sorted(page for kind in ("tutorials", "guides") for page in (DOCS / kind).glob("*.md"))
PLUGINS = [page for page in GUIDES if any(block.file == "pyproject.toml" for block in blocks(page))]


@pytest.mark.slow
@pytest.mark.parametrize("page", PLUGINS, ids=lambda page: page.stem)
def test_the_wheel_of_a_guide_holds_what_it_wrote(page: Path, tmp_path: Path) -> None:
    project = tmp_path / "project"
    written = [block for block in blocks(page) if block.file is not None]
    last = max(index for index, block in enumerate(written) if block.file == "pyproject.toml")
    for block in written[: last + 1]:
        file = project / str(block.file)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(block.text, encoding="utf-8")
    pip = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-index", "--no-build-isolation"]
    done = subprocess.run([*pip, "-w", str(tmp_path), str(project)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    files = {str(block.file): block.text for block in written[: last + 1]}
    data = [name for name in files if name.endswith((".yaml", ".jsonl"))]
    source = "".join(text for name, text in files.items() if name.endswith(".py") and "test_" not in name)
    for name in data:
        if f'"{Path(name).name}"' in source:
            assert name in names, f"{name} is registered by path and is not in the wheel"
