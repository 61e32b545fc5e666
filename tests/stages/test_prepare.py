"""Weights are prepared by a command that was asked to, or by one that runs packages and says so; never by opening."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from typer.testing import CliRunner

import zoo
from tests.engine.made import make_package
from zoo.cli import app
from zoo.engine.prepack import find, opening, store
from zoo.errors import UsageError, ZooError
from zoo.package.running import opening_bytes
from zoo.plugins import host
from zoo.stages import prepare as stage
from zoo.stages.opening import open_engine

IDS = list(range(3, 60))


@pytest.fixture(autouse=True)
def onnxruntimes_kernels(monkeypatch):
    """Ours read weights as they are stored, and need none prepared."""
    monkeypatch.setenv("ZOO_KERNELS", "never")


@pytest.fixture
def package(tmp_path):
    pytest.importorskip("torch")
    return make_package(tmp_path, precision="int8")[0].package


@pytest.fixture
def large(monkeypatch):
    """Small packages count as large ones; return what is started in the background."""
    started: list[tuple[list[str], dict[str, object]]] = []
    monkeypatch.setattr(opening, "SMALLEST", 0)
    fake = SimpleNamespace(
        Popen=lambda command, **options: started.append((command, options)), DEVNULL=subprocess.DEVNULL
    )
    monkeypatch.setattr(stage, "subprocess", fake)
    return started


def files(folder: Path) -> dict[str, tuple[int, int]]:
    return {
        str(path.relative_to(folder)): (path.stat().st_size, path.stat().st_mtime_ns)
        for path in folder.rglob("*")
        if path.is_file() and "reports" not in path.parts  # a benchmark keeps its report: it is asked for one
    }


def later(package, lines: list[str]):
    return open_engine(host().registry, package.path, preparing="later", warn=lines.append)


def test_opening_from_python_writes_nothing_and_starts_nothing(package, large, tmp_path) -> None:
    before = files(tmp_path)
    for prepared in (False, True):
        if prepared:
            zoo.prepare(package.path)
            before = files(tmp_path)
        engine = zoo.open(package.path)
        engine.generate(IDS, max_new_tokens=4, ignore_eos=True)
        engine.logits(IDS)
        zoo.benchmark(package.path, input_len=8, output_len=2, prompts=1)
        assert files(tmp_path) == before
        assert not large


def test_python_prepares_when_asked(package) -> None:
    expected = zoo.open(package.path).logits(IDS)
    assert find(package) is None
    np.testing.assert_array_equal(zoo.open(package.path, prepare=True).logits(IDS), expected)
    assert find(package) is not None


def test_zoo_prepare_says_what_it_made_and_what_it_takes(package) -> None:
    def run(*options: str) -> str:
        result = CliRunner().invoke(app, ["prepare", str(package.path), *options])
        assert result.exit_code == 0, result.output
        return result.stdout

    first = run()
    assert first.startswith(f"prepared {package.path.name}: ")
    assert str(store.entry(package)) in first
    assert run().startswith("already prepared")
    told = json.loads(run("--json"))
    assert told["bytes"] == store.size_of(store.entry(package)) > 0
    assert told["made"] is False


def test_progress_names_every_product(package) -> None:
    seen: list[tuple[str, int, int]] = []
    done = zoo.prepare(package.path, progress=lambda *step: seen.append(step))
    products = [one for one in seen if one[0].startswith("/")]
    assert [done for _, done, _ in products] == list(range(products[0][2]))
    assert done.made
    assert zoo.prepare(package.path).made is False


def test_what_is_prepared_is_used_whatever_its_size(package, monkeypatch) -> None:
    zoo.prepare(package.path)
    opened = zoo.open(package.path)
    if sys.platform == "linux":
        maps = Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace")
        assert str(store.entry(package) / store.DATA) in maps
    assert opened.logits(IDS).size


def test_float16_and_never_are_refused_in_a_line(package, tmp_path, monkeypatch) -> None:
    half = zoo.build(tmp_path / "checkpoint", "fp16", output=tmp_path / "fp16")
    with pytest.raises(ZooError, match="float16 cannot be prepared"):
        zoo.prepare(half.path)
    monkeypatch.setenv("ZOO_PREPACK", "never")
    with pytest.raises(UsageError, match="ZOO_PREPACK=never"):
        zoo.prepare(package.path)
    result = CliRunner().invoke(app, ["prepare", str(package.path)])
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1


def test_a_command_that_runs_prepares_in_the_background_and_says_so(package, large, monkeypatch) -> None:
    lines: list[str] = []
    monkeypatch.setenv("ZOO_PREPACK", "never")
    later(package, lines)
    assert not large
    assert not lines
    monkeypatch.setenv("ZOO_PREPACK", "auto")
    later(package, lines)
    command, options = large.pop()
    assert options["start_new_session"]
    (line,) = lines
    assert "in the background" in line
    assert "ZOO_PREPACK=never" in line
    subprocess.run(command, check=True, timeout=300, env=dict(os.environ))
    assert find(package) is not None
    later(package, lines)
    assert not large
    assert len(lines) == 1


def test_zoo_run_says_so_on_stderr_and_only_there(package, large) -> None:
    result = CliRunner().invoke(app, ["run", str(package.path), "Once", "--max-new-tokens", "2"])
    assert result.exit_code == 0, result.output
    assert result.stderr == (
        f"zoo: package: its weights are prepared ({_size(package)} of disk) in the background; "
        "ZOO_PREPACK=never forbids it\n"
    )
    assert "prepared" not in result.stdout
    assert len(large) == 1


def test_what_is_larger_than_memory_is_mapped_by_what_runs_it(package, large, monkeypatch) -> None:
    expected = zoo.open(package.path).logits(IDS)
    monkeypatch.setattr(opening, "free_memory", lambda: 1000)
    with pytest.raises(ZooError, match=r"prepare its weights, which are then mapped from disk: zoo prepare /\S+"):
        zoo.open(package.path)
    assert find(package) is None
    lines: list[str] = []
    np.testing.assert_array_equal(later(package, lines).logits(IDS), expected)
    assert find(package) is not None
    assert "mapped from disk" in lines[0]
    assert not large
    np.testing.assert_array_equal(zoo.open(package.path).logits(IDS), expected)


def test_what_fits_neither_memory_nor_disk_is_refused_with_the_numbers(package, large, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(opening, "free_memory", lambda: 1000)
    monkeypatch.setenv(store.LIMIT, "5000")
    with pytest.raises(ZooError, match=r"takes 0\.0 GB of memory, and 0\.0 GB are free; and it cannot be mapped"):
        later(package, [])
    half = zoo.build(tmp_path / "checkpoint", "fp16", output=tmp_path / "fp16")
    for share in (0.0, 0.99):
        needed = opening_bytes(half.manifest)
        monkeypatch.setattr(opening, "free_memory", lambda free=share * needed: free)
        with pytest.raises(ZooError, match="fewer bits"):
            later(half, [])
    monkeypatch.setattr(opening, "free_memory", lambda: needed)
    assert later(half, []).logits(IDS).size
    assert not list(store.folder().glob("*/"))


def test_the_background_process_says_why_it_cannot(tmp_path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "zoo.stages.prepare", str(tmp_path)], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 1
    assert "not a package" in done.stderr
    assert "Traceback" not in done.stderr


def _size(package) -> str:
    from zoo.engine.prepack import grows_to
    from zoo.units import bytes_text

    return bytes_text(grows_to(package))
