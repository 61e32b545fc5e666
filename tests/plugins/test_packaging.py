"""The bundled plugins as wheels: what the root brings is what each folder of its own brings."""

from __future__ import annotations

import configparser
import shutil
import zipfile
from pathlib import Path

import pytest

from tests.wheels import build_wheels

ROOT = Path(__file__).parent.parent.parent
PLUGINS = sorted(path.parent.name for path in ROOT.glob("plugins/*/pyproject.toml"))


@pytest.fixture(scope="module")
def wheels(tmp_path_factory) -> dict[str, zipfile.ZipFile]:
    """Wheels of copies of the root (``""``) and of each plugin, built by the installed setuptools as installers do."""
    folder = tmp_path_factory.mktemp("wheels")
    ignored = shutil.ignore_patterns(".*", "build", "*.egg-info", "__pycache__", "out", "training")
    projects = {"": folder / "root", **{name: folder / name for name in PLUGINS}}
    for name, project in projects.items():
        shutil.copytree(ROOT / "plugins" / name if name else ROOT, project, ignore=ignored)
    return dict(zip(projects, build_wheels(list(projects.values())), strict=True))


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
