"""The conformance kit of ``zoo.testing``, run on plugins in a process of its own; what became of each check."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from zoo.errors import ZooError

Say = Callable[[str], None]
_KIT = {"declare": "zoo.testing.declared", "tiny": "zoo.testing"}


_CONFTEST = """\
DEAREST = {"test_a_build_reads_slab_by_slab", "test_an_interrupted_build_ends_in_the_same_bytes"}

def pytest_collection_modifyitems(config, items):
    kept, dropped, seen = [], [], set()
    for item in items:
        name = getattr(item, "originalname", item.name)
        again = name in DEAREST and (item.module.PLUGIN, name) in seen
        (dropped if again else kept).append(item)
        seen.add((item.module.PLUGIN, name))
    config.hook.pytest_deselected(items=dropped)
    items[:] = kept
"""
"""What does not depend on a model's quirks and takes long is tried on one representative of each plugin."""


@dataclass(frozen=True)
class Check:
    """What became of one check."""

    suite: str
    """A plugin, or a model of ``zoo.toml``."""
    name: str
    status: Literal["passed", "failed", "skipped"]
    seconds: float = 0.0
    message: str = ""


def run_kit(
    plugins: Sequence[str],
    tier: Literal["declare", "tiny"],
    *,
    workers: int = 1,
    python: str = sys.executable,
    say: Say | None = None,
) -> list[Check]:
    """Run the conformance kit of plugins in a process and a home of its own.

    Args:
        tier: ``declare`` builds nothing.
        workers: processes, where pytest-xdist is installed.
        python: the interpreter, of another environment perhaps.
        say: given each line that pytest prints.

    Raises:
        ZooError: pytest is not installed, or could not run.
    """
    if importlib.util.find_spec("pytest") is None:
        raise ZooError("the conformance kit needs pytest; pip install 'model-zoo-framework[ci]'")
    if not plugins:
        return []
    with tempfile.TemporaryDirectory(prefix="zoo-ci-") as name:
        folder = Path(name)
        for plugin in plugins:
            stem = "".join(letter if letter.isalnum() else "_" for letter in plugin)
            text = f"from {_KIT[tier]} import *\n\nPLUGIN = {plugin!r}\nOWN_OPERATIONS_SUFFICE = True\n"
            (folder / f"test_{stem}.py").write_text(text, encoding="utf-8")
        (folder / "conftest.py").write_text(_CONFTEST, encoding="utf-8")
        (folder / "pytest.ini").write_text("[pytest]\n", encoding="utf-8")
        command = [python, "-m", "pytest", "-q", "--tb=short", "-pno:cacheprovider", "--junitxml", "checks.xml"]
        if workers > 1 and importlib.util.find_spec("xdist") is not None:
            command += ["-n", str(workers), "--dist", "worksteal"]
        home = {"ZOO_HOME": str(folder / "home"), "HF_HUB_OFFLINE": "1", "TMPDIR": name, "OMP_NUM_THREADS": "1"}
        with subprocess.Popen(
            command, cwd=folder, env={**os.environ, **home}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as process:
            assert process.stdout is not None
            last = ""
            for line in process.stdout:
                last = line.strip() or last
                if say is not None:
                    say(line.rstrip())
        if process.returncode not in (0, 1):
            raise ZooError(f"pytest could not run the conformance kit: {last[:300]}")
        return list(_read_junit(folder / "checks.xml"))


def _read_junit(path: Path) -> Iterator[Check]:
    for case in ElementTree.parse(path).iter("testcase"):  # our own pytest wrote it
        status: Literal["passed", "failed", "skipped"] = "passed"
        message = ""
        for child in case:
            if child.tag in ("failure", "error"):
                status, message = "failed", child.text or child.get("message") or ""
            elif child.tag == "skipped":
                status, message = "skipped", child.get("message") or ""
        suite = case.get("classname", "").removeprefix("test_")
        yield Check(suite, case.get("name", ""), status, float(case.get("time", 0)), message)
