"""Prepared weights: the same logits from mapped files, kept within bounds, and gone with the package."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import zoo
from tests.engine.made import make_package
from zoo.cli import app
from zoo.engine.prepack import find, make, opening, store
from zoo.errors import UsageError, ZooError
from zoo.package.memory import OPENING

IDS = list(range(3, 60))


@pytest.fixture
def package(tmp_path):
    pytest.importorskip("torch")
    return make_package(tmp_path, precision="int8")[0].package


def opened(package, monkeypatch, when: str):
    monkeypatch.setenv("ZOO_PREPACK", when)
    return zoo.open(package.path)


@pytest.mark.parametrize("precision", ["int8", "int4", "fp32"])
def test_prepared_weights_compute_the_same(tmp_path, monkeypatch, precision) -> None:
    pytest.importorskip("torch")
    engine, _ = make_package(tmp_path, precision=precision, tie_word_embeddings=precision == "int4")
    package, expected = engine.package, engine.logits(IDS)
    assert find(package) is None
    prepared = opened(package, monkeypatch, "always")
    if sys.platform == "linux":
        maps = Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace")
        assert str(store.entry(package) / store.DATA) in maps
    graph = find(package)
    assert graph is not None
    assert graph.is_relative_to(store.folder())
    np.testing.assert_array_equal(prepared.logits(IDS), expected)
    before = graph.stat().st_mtime_ns
    np.testing.assert_array_equal(opened(package, monkeypatch, "always").logits(IDS), expected)
    assert graph.stat().st_mtime_ns == before


def test_weights_that_changed_are_noticed_and_let_go(package, monkeypatch) -> None:
    expected = zoo.open(package.path).logits(IDS)
    graph = make(package)
    data = bytearray((graph.parent / store.DATA).read_bytes())
    import onnx

    model = onnx.load(str(graph), load_external_data=False)
    ranges = [
        tuple(map(int, buffer.split(";")[:2]))
        for tensor in model.graph.initializer
        for entry in tensor.external_data
        if entry.key.startswith("prepacked_")
        for buffer in entry.value.split("|")[1:]
    ]
    assert ranges
    for offset, length in ranges:
        data[offset : offset + length] = bytes(length)
    (graph.parent / store.DATA).write_bytes(data)
    np.testing.assert_array_equal(opened(package, monkeypatch, "always").logits(IDS), expected)
    assert find(package) is None


def test_a_package_larger_than_memory_is_mapped(package, monkeypatch, caplog) -> None:
    expected = zoo.open(package.path).logits(IDS)
    monkeypatch.setattr(opening, "SMALLEST", 0)
    monkeypatch.setattr(opening, "free_memory", lambda: 1000)
    np.testing.assert_array_equal(opened(package, monkeypatch, "auto").logits(IDS), expected)
    assert find(package) is not None
    assert "mapped from disk" in caplog.text


def test_what_fits_neither_memory_nor_disk_is_refused_with_the_numbers(package, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(opening, "SMALLEST", 0)
    monkeypatch.setattr(opening, "free_memory", lambda: 1000)
    monkeypatch.setenv(store.LIMIT, "5000")
    with pytest.raises(ZooError, match=r"takes 0\.0 GB of memory, and 0\.0 GB are free; and it cannot be mapped"):
        opened(package, monkeypatch, "auto")
    half = zoo.build(tmp_path / "checkpoint", "fp16", output=tmp_path / "fp16")
    for share in (0.0, 0.99):
        needed = OPENING["fp16"] * sum(one.size for one in half.manifest.files.values())
        monkeypatch.setattr(opening, "free_memory", lambda free=share * needed: free)
        with pytest.raises(ZooError, match="fewer bits"):
            opened(half, monkeypatch, "auto")
    monkeypatch.setattr(opening, "free_memory", lambda: needed)
    assert opened(half, monkeypatch, "auto").logits(IDS).size
    assert not list(store.folder().glob("*/"))


def test_larger_packages_are_prepared_in_the_background(package, monkeypatch) -> None:
    started = []
    monkeypatch.setattr(opening, "SMALLEST", 0)
    fake = SimpleNamespace(
        Popen=lambda command, **options: started.append((command, options)), DEVNULL=subprocess.DEVNULL
    )
    monkeypatch.setattr(opening, "subprocess", fake)
    opened(package, monkeypatch, "never")
    assert not started
    monkeypatch.setenv("ZOO_PREPACK", "auto")
    zoo.benchmark(package.path, input_len=8, output_len=2, prompts=1)
    assert not started  # what is measured has the machine to itself
    opened(package, monkeypatch, "auto")
    command, options = started.pop()
    assert options["start_new_session"]
    subprocess.run(command, check=True, timeout=300, env=dict(os.environ))
    assert find(package) is not None
    opened(package, monkeypatch, "auto")
    assert not started


def test_a_spoilt_entry_is_none(package, monkeypatch) -> None:
    expected = zoo.open(package.path).logits(IDS)
    graph = make(package)
    graph.write_bytes(b"x" * graph.stat().st_size)
    np.testing.assert_array_equal(opened(package, monkeypatch, "always").logits(IDS), expected)
    graph = make(package)
    (graph.parent / store.DATA).write_bytes(b"short")
    assert find(package) is None
    assert make(package) == graph
    assert find(package) == graph
    (graph.parent / store.MARKER).write_text("[]")
    assert find(package) is None


def test_the_bound_drops_what_was_used_longest_ago(package, tmp_path, monkeypatch) -> None:
    other = zoo.build(tmp_path / "checkpoint", "int4", output=tmp_path / "int4")
    first = make(package).parent
    os.utime(first / store.MARKER, (1, 1))
    monkeypatch.setenv(store.LIMIT, str(store.size_of(first) + 1000))
    make(other)
    assert find(package) is None
    assert find(other) is not None
    monkeypatch.setenv(store.LIMIT, "0")
    with pytest.raises(ZooError, match=r"may take 0\.0 GB"):
        make(package)
    monkeypatch.setenv(store.LIMIT, "much")
    with pytest.raises(UsageError, match="number of bytes"):
        store.limit()


def test_rm_takes_them_along(package) -> None:
    from typer.testing import CliRunner

    make(package)
    result = CliRunner().invoke(app, ["rm", str(package.path)])
    assert result.exit_code == 0
    assert not list(store.folder().glob("*/"))


def test_the_background_process_says_why_it_cannot(tmp_path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "zoo.engine.prepack", str(tmp_path)], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 1
    assert "no package" in done.stderr
    assert "Traceback" not in done.stderr


def test_another_processor_has_weights_of_its_own(package, monkeypatch) -> None:
    mine = store.entry(package)
    monkeypatch.setattr(store, "_cpu", lambda: "another")
    assert store.entry(package) != mine
