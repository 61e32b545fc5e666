"""Prepared weights: the same logits from mapped files, kept within bounds, and gone with the package."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pytest

import zoo
from tests.engine.made import make_package
from zoo.cli import app
from zoo.engine.prepack import find, make, store
from zoo.errors import UsageError, ZooError

IDS = list(range(3, 60))


@pytest.fixture(autouse=True)
def onnxruntimes_kernels(monkeypatch):
    """Ours read weights as they are stored, and need none prepared."""
    monkeypatch.setenv("ZOO_KERNELS", "never")


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


@pytest.mark.parametrize("when", ["auto", "always"])
def test_weights_that_changed_are_noticed_and_let_go(package, monkeypatch, when) -> None:
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
    np.testing.assert_array_equal(opened(package, monkeypatch, when).logits(IDS), expected)
    assert find(package) is None


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


def test_another_processor_has_weights_of_its_own(package, monkeypatch) -> None:
    mine = store.entry(package)
    monkeypatch.setattr(store, "_cpu", lambda: "another")
    assert store.entry(package) != mine
