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


def build_wheel(source: Path, out: Path) -> zipfile.ZipFile:
    """Build a wheel of a copy of the sources, with the installed setuptools and no network."""
    pytest.importorskip("build")
    copy = out / "source"
    ignored = shutil.ignore_patterns(".git", ".venv", "build", "*.egg-info", "__pycache__", "out", ".bench", "training")
    shutil.copytree(source, copy, ignore=ignored)
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(copy)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return zipfile.ZipFile(next(out.glob("*.whl")))


def entry_points(wheel: zipfile.ZipFile) -> dict[str, str]:
    name = next(one for one in wheel.namelist() if one.endswith("entry_points.txt"))
    parser = configparser.ConfigParser()
    parser.read_string(wheel.read(name).decode())
    return dict(parser["zoo"])


@pytest.fixture(scope="module")
def root_wheel(tmp_path_factory) -> zipfile.ZipFile:
    return build_wheel(ROOT, tmp_path_factory.mktemp("root"))


@pytest.mark.slow
@pytest.mark.parametrize("name", PLUGINS)
def test_a_plugins_own_wheel_brings_what_the_root_brings(name, root_wheel, tmp_path) -> None:
    own = build_wheel(ROOT / "plugins" / name, tmp_path)
    points = entry_points(own)
    assert points.items() <= entry_points(root_wheel).items()
    package = points[name].split(":")[0]
    mine = {one for one in own.namelist() if one.startswith(f"{package}/")}
    bundled = {one for one in root_wheel.namelist() if one.startswith(f"{package}/")}
    assert mine == bundled
    for file in mine:
        assert own.read(file) == root_wheel.read(file)
    assert f"{package}/__init__.py" in mine
    assert any(one.endswith((".yaml", ".py")) for one in mine)


@pytest.mark.slow
def test_every_plugin_folder_is_an_entry_point_of_the_root(root_wheel) -> None:
    assert set(entry_points(root_wheel)) == set(PLUGINS)


@pytest.mark.slow
def test_the_wheel_holds_the_small_model_and_no_tests(root_wheel) -> None:
    names = root_wheel.namelist()
    assert "zoo_tiny/checkpoint/model.safetensors" in names
    assert "zoo/py.typed" in names
    assert {"zoo_server/page/index.html", "zoo_server/page/style.css", "zoo_server/page/page.js"} <= set(names)
    assert not [one for one in names if one.startswith(("tests/", "benchmarks/", "docs/"))]
