"""Upstream drift: a plugin's conformance tests with the newest libraries, beside those of today."""

from __future__ import annotations

import json
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from zoo.errors import ZooError
from zoo.stages.kit import Check, run_kit

WATCHED = ("transformers", "onnxruntime")


@dataclass(frozen=True)
class Drift:
    """What other versions of libraries change."""

    versions: dict[str, tuple[str, str]]
    """Library → version here, version there."""
    broken: list[Check]
    """Checks that pass here and fail there."""
    mended: list[str]
    """Checks that fail here and pass there."""
    checks: int


def try_newest(
    plugin: str,
    packages: Sequence[str] = WATCHED,
    *,
    tier: Literal["declare", "tiny"] = "tiny",
    say: Callable[[str], None] | None = None,
) -> Drift:
    """Run the conformance kit of a plugin with the newest versions of libraries, in an environment of its own.

    The environment sees what this one has installed; only the named libraries, and what they need newer, are its own.

    Args:
        packages: as pip takes them; the newest of each.
        say: given a line before each step.

    Raises:
        ZooError: they cannot be installed together, or pytest is not here.
    """
    told = say or (lambda line: None)
    with tempfile.TemporaryDirectory(prefix="zoo-next-") as name:
        python = _environment(Path(name))
        told(f"installing the newest {' and '.join(packages)} into an environment of its own")
        install = [sys.executable, "-m", "pip", f"--python={python}", "install", "--quiet", "--upgrade"]
        done = subprocess.run(
            [*install, "--upgrade-strategy=only-if-needed", *packages], capture_output=True, text=True
        )
        if done.returncode:
            lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
            raise ZooError(f"{' and '.join(packages)}: {(lines or ['pip failed'])[-1].removeprefix('ERROR: ')[:300]}")
        before, after = _versions(sys.executable), _versions(str(python))
        versions = {
            name: (before[name], after[name]) for name in before if before[name] != after.get(name, before[name])
        }
        told("the conformance kit there")
        there = run_kit([plugin], tier, python=str(python))
        if all(check.status != "failed" for check in there):
            return Drift(versions, [], [], len(there))
        told("the conformance kit here, to tell what is new")
        here = {check.name: check.status for check in run_kit([plugin], tier)}
    broken = [check for check in there if check.status == "failed" and here.get(check.name) != "failed"]
    mended = [check.name for check in there if check.status == "passed" and here.get(check.name) == "failed"]
    return Drift(versions, broken, mended, len(there))


def _environment(folder: Path) -> Path:
    """Make an environment that sees this one's packages behind its own; return its Python."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    (site,) = {
        path for path in (folder / "Lib/site-packages", *folder.glob("lib/python*/site-packages")) if path.exists()
    }
    paths = sorted({sysconfig.get_path(name) for name in ("purelib", "platlib")})
    (site / "outer.pth").write_text("".join(f"import site; site.addsitedir({path!r})\n" for path in paths))
    return folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")


def _versions(python: str) -> dict[str, str]:
    script = (
        "import json; from importlib.metadata import distributions as d\n"
        "found = {}\n"
        "for one in d(): found.setdefault(one.name.lower(), one.version)\n"
        "print(json.dumps(found))"
    )
    done = subprocess.run([python, "-c", script], capture_output=True, text=True, check=True)
    versions: dict[str, str] = json.loads(done.stdout)
    return versions
