"""Folders that may not be written, and files that were damaged: one line each, nothing left behind."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

import pytest

from tests.builds import architecture, make_recipe, registry, write_checkpoint
from zoo.errors import ZooError
from zoo.package import open_package
from zoo.sources.folder import open_folder
from zoo.stages.build import build

ROOT = Path(__file__).parents[2]
CHILD = """
    import os, sys
    from pathlib import Path
    from tests.builds import architecture, make_recipe, registry
    from zoo.errors import ZooError
    from zoo.package.store import output_folder
    from zoo.sources.folder import open_folder
    from zoo.stages.build import build
    recipe = make_recipe(architecture())
    # A first build imports all that there is to import, which nobody may not where Python lies in a home.
    # It keeps its digests elsewhere: on a slow machine it has some to keep, and root may write them everywhere.
    home = os.environ.get("ZOO_HOME")
    os.environ["ZOO_HOME"] = sys.argv[1] + "-home"
    build(recipe, open_folder(Path(sys.argv[1])), Path(sys.argv[1] + "-first"), registry(), warn=lambda line: None)
    os.environ["ZOO_HOME"] = home or ""
    if os.getuid() == 0:  # root may write everywhere
        os.setgid(65534)
        os.setuid(65534)
    try:
        output = Path(sys.argv[2]) if len(sys.argv) > 2 else output_folder(recipe)
        build(recipe, open_folder(Path(sys.argv[1])), output, registry(), warn=lambda line: None)
    except ZooError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)
"""


@pytest.fixture
def tmp_path():
    """A folder that others may enter. Pytest closes its own to them whenever another run of it begins."""
    with tempfile.TemporaryDirectory(prefix="zoo-") as folder:
        os.chmod(folder, 0o755)
        yield Path(folder)


def as_nobody(*arguments, **environment):
    """Build as somebody who may not write; return exit code and lines."""
    command = [sys.executable, "-c", textwrap.dedent(CHILD), *map(str, arguments)]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env={**os.environ, **environment})
    return ran.returncode, ran.stderr.splitlines()


@pytest.mark.skipif(os.name == "nt", reason="permissions of another kind")
def test_an_output_folder_that_may_not_be_written(tmp_path):
    folder = write_checkpoint(tmp_path / "ck", architecture())
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o555)
    code, lines = as_nobody(folder, closed / "out")
    assert code == 1
    assert len(lines) == 1
    assert "Permission denied" in lines[0]
    assert str(closed) in lines[0]
    assert list(closed.iterdir()) == []


@pytest.mark.skipif(os.name == "nt", reason="permissions of another kind")
@pytest.mark.parametrize("variable", ["HOME", "ZOO_HOME"])
def test_a_home_without_permission(tmp_path, variable):
    folder = write_checkpoint(tmp_path / "ck", architecture())
    home = tmp_path / "home"
    home.mkdir(mode=0o555)
    environment = {variable: str(home)} | ({"ZOO_HOME": ""} if variable == "HOME" else {})
    code, lines = as_nobody(folder, **environment)
    assert code == 1
    assert len(lines) == 1
    assert "Permission denied" in lines[0]
    assert list(home.iterdir()) == []


def test_a_flipped_byte_in_any_file_is_found(tmp_path):
    opened = open_folder(write_checkpoint(tmp_path / "ck", architecture()))
    package = build(make_recipe(architecture()), opened, tmp_path / "out", registry())
    assert set(package.manifest.files) >= {"weights.data", "graph.json", "config.json"}
    for name in package.manifest.files:
        path = package.path / name
        whole = path.read_bytes()
        for at in (0, len(whole) // 2, len(whole) - 1):
            damaged = bytearray(whole)
            damaged[at] ^= 1
            path.write_bytes(damaged)
            with pytest.raises(ZooError, match=rf"{name}: its SHA-256 is not"):
                open_package(package.path, hashes=True)
        path.write_bytes(whole)
    open_package(package.path, hashes=True)
    manifest = package.path / "zoo.json"
    manifest.write_bytes(manifest.read_bytes().replace(b'"int8"', b'"int4"', 1))
    with pytest.raises(ZooError):
        open_package(package.path)
