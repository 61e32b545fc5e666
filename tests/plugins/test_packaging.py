"""The bundled plugins as wheels: what the root brings is what each folder of its own brings."""

from __future__ import annotations

import configparser
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
PLUGINS = sorted(path.parent.name for path in ROOT.glob("plugins/*/pyproject.toml"))


BUILD = """
import os, sys
from setuptools import build_meta
from setuptools.command import bdist_wheel, build_py, egg_info, sdist
for source, out in zip(sys.argv[1::2], sys.argv[2::2]):
    if not (child := os.fork()):
        os.chdir(source)
        build_meta.build_wheel(out)
        os._exit(0)
    if os.waitpid(child, 0)[1]:
        sys.exit(f"{source} cannot be built")
"""


@pytest.fixture(scope="module")
def wheels(tmp_path_factory) -> dict[str, zipfile.ZipFile]:
    """Wheels of copies of the root (``""``) and of each plugin, built by the installed setuptools as installers do."""
    folder = tmp_path_factory.mktemp("wheels")
    ignored = shutil.ignore_patterns(".*", "build", "*.egg-info", "__pycache__", "out", "training")
    command = [sys.executable, "-c", BUILD]
    for name in ("", *PLUGINS):
        out = folder / (name or "root")
        shutil.copytree(ROOT / "plugins" / name if name else ROOT, out / "source", ignore=ignored)
        command += [str(out / "source"), str(out)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return {name: zipfile.ZipFile(next((folder / (name or "root")).glob("*.whl"))) for name in ("", *PLUGINS)}


def entry_points(wheel: zipfile.ZipFile) -> dict[str, str]:
    name = next(one for one in wheel.namelist() if one.endswith("entry_points.txt"))
    parser = configparser.ConfigParser()
    parser.read_string(wheel.read(name).decode())
    return dict(parser["zoo"])


@pytest.mark.slow
def test_a_plugins_own_wheel_brings_what_the_root_brings(wheels) -> None:
    for name in PLUGINS:
        compare(name, wheels[name], wheels[""])


def compare(name: str, own: zipfile.ZipFile, root: zipfile.ZipFile) -> None:
    """Hold a plugin's own wheel against the root's, byte by byte."""
    points = entry_points(own)
    assert points.items() <= entry_points(root).items()
    package = points[name].split(":")[0]
    mine = {one for one in own.namelist() if one.startswith(f"{package}/")}
    bundled = {one for one in root.namelist() if one.startswith(f"{package}/")}
    assert mine == bundled
    for file in mine:
        assert own.read(file) == root.read(file)
    assert f"{package}/__init__.py" in mine
    assert any(one.endswith((".yaml", ".py")) for one in mine)


@pytest.mark.slow
def test_every_plugin_folder_is_an_entry_point_of_the_root(wheels) -> None:
    assert set(entry_points(wheels[""])) == set(PLUGINS)


@pytest.mark.slow
def test_the_wheel_holds_the_small_model_and_no_tests(wheels) -> None:
    names = wheels[""].namelist()
    assert "zoo_tiny/checkpoint/model.safetensors" in names
    assert "zoo/py.typed" in names
    assert {"zoo_server/page/index.html", "zoo_server/page/style.css", "zoo_server/page/page.js"} <= set(names)
    assert not [one for one in names if one.startswith(("tests/", "benchmarks/", "docs/"))]
