"""The pages of measured figures are what their templates make of the results."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_no_page_of_measured_figures_is_stale():
    done = subprocess.run(
        [sys.executable, "benchmarks/pages.py", "--check"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
