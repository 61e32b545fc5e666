"""Wheels, built by the installed setuptools as installers do, all from one process that has it loaded."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

_BUILD = """
import os, sys
from setuptools import build_meta
from setuptools.command import bdist_wheel, build_py, egg_info, sdist
for source in sys.argv[1:]:
    if not (child := os.fork()):
        os.chdir(source)
        build_meta.build_wheel("dist")
        os._exit(0)
    if os.waitpid(child, 0)[1]:
        sys.exit(f"{source} cannot be built")
"""


def build_wheels(projects: Sequence[Path]) -> list[zipfile.ZipFile]:
    """Build a wheel in ``dist`` of each project's folder, without a network, and open it."""
    done = subprocess.run([sys.executable, "-c", _BUILD, *map(str, projects)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return [zipfile.ZipFile(next((project / "dist").glob("*.whl"))) for project in projects]
