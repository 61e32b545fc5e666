"""Code blocks of the guides, run as a reader would: in an empty folder and a virtual environment of their own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

_BLOCK = re.compile(
    r"(?:<!-- (?P<key>file|not run): (?P<value>[^>]*?) -->\n\n)?^```(?P<language>\w*)\n(?P<text>.*?)^```$", re.S | re.M
)
SHOWN = frozenset({"text", ""})
"""Languages of blocks that show something instead of doing it."""


@dataclass(frozen=True)
class Block:
    language: str
    text: str
    line: int
    file: str | None = None
    reason: str | None = None
    """Why it is not run."""


def blocks(page: Path) -> list[Block]:
    """List a page's code blocks."""
    text = page.read_text(encoding="utf-8")
    return [
        Block(
            one["language"], one["text"], text.count("\n", 0, one.start("language")) + 1,
            one["value"] if one["key"] == "file" else None, one["value"] if one["key"] == "not run" else None,
        )
        for one in _BLOCK.finditer(text)
    ]  # fmt: skip


def environment(folder: Path) -> dict[str, str]:
    """Make a virtual environment that sees what this one has installed, and nothing of it changes."""
    venv = folder / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(venv)], check=True)
    paths = {sysconfig.get_path(one) for one in ("purelib", "platlib")}
    site = next(venv.glob("lib/python*/site-packages"))
    (site / "outer.pth").write_text("".join(f"import site; site.addsitedir({path!r})\n" for path in sorted(paths)))
    for name in ("pip", "zoo", "pytest"):
        script = venv / "bin" / name
        script.write_text(f'#!/bin/sh\nexec "{venv}/bin/python" -m {name} "$@"\n')
        script.chmod(0o755)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("ZOO_", "HF_", "PYTEST_"))}
    kept.pop("PYTHONPATH", None)
    return kept | {
        "PATH": f"{venv / 'bin'}{os.pathsep}{os.environ['PATH']}", "VIRTUAL_ENV": str(venv),
        "ZOO_HOME": str(folder / "home"), "HF_HOME": str(folder / "hf"), "HF_HUB_OFFLINE": "1",
        "PIP_NO_INDEX": "1", "PIP_NO_BUILD_ISOLATION": "0", "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_QUIET": "1",
        "OMP_NUM_THREADS": "1",
    }  # fmt: skip


def run_page(page: Path, folder: Path) -> int:
    """Run a page's blocks from top to bottom; return how many ran."""
    variables, work, ran = environment(folder), folder / "work", 0
    work.mkdir()
    for block in blocks(page):
        where = f"{page.name}:{block.line}"
        if block.reason is not None or block.language in SHOWN:
            continue
        if block.file is not None:
            (work / block.file).parent.mkdir(parents=True, exist_ok=True)
            (work / block.file).write_text(block.text, encoding="utf-8")
            continue
        command = {"bash": ["bash", "-euo", "pipefail", "-c"], "python": ["python", "-c"]}.get(block.language)
        assert command is not None, (
            f"{where}: a block of {block.language} is neither run nor a file, and gives no reason"
        )
        done = subprocess.run([*command, block.text], cwd=work, env=variables, capture_output=True, text=True)
        assert done.returncode == 0, f"{where}:\n{block.text}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        ran += 1
    return ran
