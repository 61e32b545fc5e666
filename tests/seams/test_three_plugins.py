"""A source, an architecture and a target, each in a wheel of its own: together they build, plan, run and verify."""

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import zoo
from tests.wheels import build_wheels
from zoo.testing.checkpoint import write_tokenizer

HERE = Path(__file__).parent
MODULES = {"source": "zoo_archive", "architecture": "zoo_plain", "target": "zoo_eager"}
SOURCES = {part: HERE / part / f"{module}.py" for part, module in MODULES.items()}
PYPROJECT = """
[build-system]
requires = ["setuptools>=77"]
build-backend = "setuptools.build_meta"
[project]
name = "zoo-seam-{part}"
version = "1.0"
[project.entry-points.zoo]
{module} = "{module}"
[tool.setuptools]
py-modules = ["{module}"]
data-files = {{ "." = {data} }}
"""
SHAPES = {"hidden_size": 32, "intermediate_size": 80, "num_hidden_layers": 2, "num_attention_heads": 2}


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """Build three wheels and unpack them as pip would, into one folder."""
    site, folders = tmp_path_factory.mktemp("site"), []
    for part, module in MODULES.items():
        folder = tmp_path_factory.mktemp(part)
        files = [path for path in (HERE / part).iterdir() if path.is_file()]
        for path in files:
            shutil.copy(path, folder)
        data = [path.name for path in files if path.suffix == ".yaml"]
        (folder / "pyproject.toml").write_text(PYPROJECT.format(part=part, module=module, data=json.dumps(data)))
        folders.append(folder)
    for wheel in build_wheels(folders):
        wheel.extractall(site)
    for path in site.glob("*.data/data/*"):
        shutil.move(path, site)
    return site


@pytest.fixture
def archive(tmp_path) -> Path:
    """A checkpoint of the plugin's architecture in the plugin's own format."""
    folder = tmp_path / "files"
    folder.mkdir()
    write_tokenizer(folder)
    config = {"model_type": "plain", **SHAPES, "num_key_value_heads": 1, "vocab_size": 320, "hidden_act": "gelu"}
    random = np.random.default_rng(0)

    def weight(*shape: int) -> np.ndarray:
        return (random.standard_normal(shape) * 0.2).astype(np.float32)

    arrays = {"embed": weight(320, 32), "last_norm": 1 + weight(32)}
    for layer in range(2):
        shapes = {"qkv": (64, 32), "out": (32, 32), "up": (80, 32), "down": (32, 80)}
        arrays |= {f"layers.{layer}.{name}": weight(*shape) for name, shape in shapes.items()}
        arrays[f"layers.{layer}.norm"] = 1 + weight(32)
    config |= {"max_position_embeddings": 128, "rms_norm_eps": 1e-6, "bos_token_id": 1, "eos_token_id": 2}
    (folder / "config.json").write_text(json.dumps(config))
    files = {f"file:{path.name}": np.frombuffer(path.read_bytes(), np.uint8) for path in folder.iterdir()}
    path = tmp_path / "small.npz"
    np.savez(path, **arrays, **files)
    return path


COMMANDS = """
import json, os, sys
from typer.testing import CliRunner
from zoo.cli import app
for line in sys.stdin:
    folder, arguments = json.loads(line)
    os.chdir(folder)
    done = CliRunner().invoke(app, arguments)
    print(json.dumps([done.exit_code, done.stdout, done.stderr]), flush=True)
"""


@pytest.fixture(scope="module")
def installed(site) -> Iterator[subprocess.Popen[str]]:
    """A process that has the three wheels and runs a command of ``zoo`` for each line: a folder, and arguments."""
    env = {**os.environ, "PYTHONPATH": str(site), "ZOO_STRICT_PLUGINS": "1"}
    process = subprocess.Popen(
        [sys.executable, "-c", COMMANDS], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env
    )
    yield process
    process.communicate()


@pytest.fixture
def run(installed, tmp_path):
    """Run ``zoo`` with the three wheels, in the test's folder; return what it prints."""

    def run(*args: object, code: int = 0) -> str:
        assert installed.stdin is not None
        assert installed.stdout is not None
        print(json.dumps([str(tmp_path), [str(arg) for arg in args]]), file=installed.stdin, flush=True)
        exit_code, printed, errors = json.loads(installed.stdout.readline())
        assert exit_code == code, printed + errors
        return printed

    return run


def test_they_are_small_and_stand_on_what_zoo_exports() -> None:
    files = [path for part in MODULES for path in (HERE / part).iterdir() if path.is_file()]
    assert sum(len(path.read_text().splitlines()) for path in files) <= 200
    for path in SOURCES.values():
        for node in ast.walk(ast.parse(path.read_text())):
            modules = [node.module] if isinstance(node, ast.ImportFrom) else []
            modules += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            assert not [name for name in modules if name and name.startswith("zoo.")], path.name
            names = [alias.name for alias in node.names] if modules == ["zoo"] and hasattr(node, "module") else []
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "zoo":
                names.append(node.attr)
            assert set(names) <= set(zoo.__all__), path.name


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "int8", "int4"])
def test_together_they_plan_build_run_and_verify(run, archive, precision, tmp_path) -> None:
    plan = json.loads(
        run("build", archive, "-p", precision, "--target", "eager", "-o", "package", "--dry-run", "--json")
    )
    run("build", archive, "-p", precision, "--target", "eager", "-o", "package")
    size = (tmp_path / "package" / "weights.bin").stat().st_size
    assert size == plan["writes"][-1]["offset"] + plan["writes"][-1]["nbytes"]
    answer = json.loads(run("run", "package", "Once", "--max-new-tokens", 5, "--json"))
    assert answer["completion_tokens"] == 5
    told = json.loads(run("verify", "package", "--weights", archive, "--quick", "--json"))
    assert told["passed"]
    assert told["measured"]["figures"]["places"] == []


@pytest.mark.slow
def test_each_stands_beside_what_the_core_brings(run, archive, tmp_path) -> None:
    """The plugin's source and architecture build for ``ort``; both engines choose the same tokens."""
    assert "plain-32" in run("list", "plain-*")
    run("build", archive, "-p", "fp32", "-o", "ours")
    run("build", archive, "-p", "fp32", "--target", "eager", "-o", "theirs")
    answers = [
        json.loads(run("run", package, "Once upon", "--max-new-tokens", 12, "--json"))["token_ids"]
        for package in ("ours", "theirs")
    ]
    assert answers[0] == answers[1]
    assert json.loads(run("verify", "ours", "--weights", archive, "--quick", "--json"))["passed"]
    run("build", archive, "-p", "int4", "-o", "small")
    assert json.loads(run("verify", "small", "--weights", archive, "--quick", "--json"))["passed"]


@pytest.mark.slow
def test_a_damaged_weight_of_the_targets_own_format_fails_verification(run, archive, tmp_path) -> None:
    run("build", archive, "-p", "int8", "--target", "eager", "-o", "package")
    data = tmp_path / "package" / "weights.bin"
    raw = bytearray(data.read_bytes())
    raw[1000:1400] = bytes(400)
    data.write_bytes(raw)
    run("verify", "package", "--weights", archive, "--quick", "--json", code=1)
