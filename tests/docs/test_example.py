"""The example plugin, as its author would: an empty folder, a fresh virtual environment, the commands of the guide."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.docs.blocks import environment

EXAMPLE = Path(__file__).parents[2] / "docs" / "example_plugin"


def test_a_family_and_its_models_are_at_most_40_lines() -> None:
    assert len((EXAMPLE / "zoo_pico" / "pico.yaml").read_text().splitlines()) <= 40
    assert len((EXAMPLE / "tests" / "test_pico.py").read_text().splitlines()) == 2


@pytest.mark.slow
def test_the_example_installs_validates_and_passes_its_tests(tmp_path: Path) -> None:
    shutil.copytree(EXAMPLE, tmp_path / "pico")
    variables = environment(tmp_path)
    for command in (
        "pip install -e pico",
        "zoo validate pico pico/zoo_pico/pico.yaml --offline",
        "pytest -q pico/tests -p no:cacheprovider -k 'not slab_by_slab and pico-1b'",  # the core's tests try the rest
    ):
        done = subprocess.run(shlex.split(command), cwd=tmp_path, env=variables, capture_output=True, text=True)
        assert done.returncode == 0, f"{command}\n{done.stdout[-3000:]}\n{done.stderr[-2000:]}"
    listed = subprocess.run(
        ["zoo", "list", "--family", "pico"], cwd=tmp_path, env=variables, capture_output=True, text=True, check=True
    )
    assert [line.split()[0] for line in listed.stdout.splitlines()[1:]] == [
        "pico-300m", "pico-1b", "pico-1b-chat", "pico-llama",
    ]  # fmt: skip
    assert "6.7B" in listed.stdout
