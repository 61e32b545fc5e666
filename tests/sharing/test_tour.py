"""The script that shows the whole: it runs, here with one family in the conformance kit."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("docker-registry") is None, reason="docker-registry is not installed")
def test_the_tour_ends_well(tmp_path: Path) -> None:
    pytest.importorskip("oras")
    variables = {**os.environ, "PYTHON": sys.executable, "CI_OPTIONS": "--plugin tiny"}
    done = subprocess.run(
        [str(ROOT / "docs/tour.sh"), str(tmp_path / "tour")], env=variables, capture_output=True, text=True
    )
    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    assert done.stdout.endswith("== done\n")
