"""Our own matrix products: held against the definition of the weights in float64, and against onnxruntime's."""

from __future__ import annotations

import ctypes
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from tests.engine.made import make_package
from zoo.engine import kernels
from zoo.engine.huge_pages import SMALLEST, use_huge_pages
from zoo.engine.session import Session, open_session
from zoo.engine.smaps import read_smaps
from zoo.errors import UsageError

needs_kernels = pytest.mark.skipif(
    kernels.library() is None, reason="the kernels are not compiled, or this processor has no AVX-512 VNNI"
)
TOKENS = (1, 2, 3, 4, 5, 7, 8, 13, 30)
"""Along rows by 1 to 4, through tiles by 6, 2 and 1."""


class Matrix:
    """Random weights (rows, columns) in blocks, as ``MatMulNBits`` stores them."""

    def __init__(self, bits: int, block: int, rows: int, columns: int, *, zeros: bool, scale_bits: int = 32) -> None:
        rng = np.random.default_rng(rows + columns + bits)
        self.bits, self.block, self.rows, self.columns = bits, block, rows, columns
        blocks = -(-columns // block)
        self.levels = rng.integers(0, 256, (rows, blocks, block * bits // 8), dtype=np.uint8)
        self.scales = rng.random((rows, blocks), dtype=np.float32) * 0.01
        if scale_bits == 16:
            self.scales = (self.scales.view(np.uint32) & 0xFFFF0000).view(np.float32)
        self.zeros = rng.integers(0, 256, (rows, -(-blocks * bits // 8)), dtype=np.uint8) if zeros else None

    def values(self) -> np.ndarray:
        """The weights themselves, float64 (rows, columns)."""
        blocks = self.levels.shape[1]
        levels = self._spread(self.levels).reshape(self.rows, blocks, self.block)
        middle = np.full((self.rows, blocks), 1 << self.bits - 1)
        zeros = middle if self.zeros is None else self._spread(self.zeros)[:, :blocks]
        values = (levels - zeros[..., None].astype(np.float64)) * self.scales[..., None]
        return values.reshape(self.rows, -1)[:, : self.columns]

    def _spread(self, stored: np.ndarray) -> np.ndarray:
        if self.bits == 8:
            return stored
        return np.stack([stored & 15, stored >> 4], axis=-1).reshape(*stored.shape[:-1], -1)

    def session(self, bias: np.ndarray | None = None, **sizes: int) -> tuple[Any, int]:
        """A session of the product, and its number; a bias is added by a node of its own. Sizes may be made to lie."""
        arrays = {"levels": self.levels, "scales": self.scales} | ({} if self.zeros is None else {"zeros": self.zeros})
        true = {"K": self.columns, "N": self.rows, "bits": self.bits, "block_size": self.block, "accuracy_level": 4}
        sizes = true | sizes
        nodes = [helper.make_node("MatMulNBits", ["x", *arrays], ["y"], domain="com.microsoft", **sizes)]
        types = {name: TensorProto.FLOAT if name == "scales" else TensorProto.UINT8 for name in arrays}
        weights = [helper.make_tensor(name, types[name], a.shape, a.tobytes(), raw=True) for name, a in arrays.items()]
        if bias is not None:
            nodes.append(helper.make_node("Add", ["y", "bias"], ["z"]))
            weights.append(helper.make_tensor("bias", TensorProto.FLOAT, bias.shape, bias.tobytes(), raw=True))
        shapes = (
            (None, None) if bias is None else (["tokens", self.columns], ["tokens", self.rows])
        )  # fused where known
        x = helper.make_tensor_value_info("x", TensorProto.FLOAT, shapes[0])
        y = helper.make_tensor_value_info(nodes[-1].output[0], TensorProto.FLOAT, shapes[1])
        opsets = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
        graph = helper.make_graph(nodes, "product", [x], [y], weights)
        model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
        return open_session(model.SerializeToString(), 2, Path())


def multiply(session: tuple[Any, int], x: np.ndarray) -> np.ndarray:
    return session[0].run(None, {"x": x})[0]


def error(session: tuple[Any, int], x: np.ndarray, expected: np.ndarray) -> float:
    return float(np.abs(multiply(session, x) - expected).mean() / np.abs(expected).mean())


@needs_kernels
@pytest.mark.parametrize("zeros", [False, True], ids=["symmetric", "asymmetric"])
@pytest.mark.parametrize("block", [16, 32, 64, 128, 256])
@pytest.mark.parametrize("bits", [4, 8])
def test_products_are_as_close_as_onnxruntimes(bits, block, zeros, monkeypatch):
    """Rows and columns that fill no tile, no vector and no block; every number of tokens that has code of its own."""
    for rows, columns in ((64, 256), (17, 1000), (33, 2048 + 48)):
        matrix = Matrix(bits, block, rows, columns, zeros=zeros)
        monkeypatch.setenv("ZOO_KERNELS", "auto")
        ours = matrix.session()
        monkeypatch.setenv("ZOO_KERNELS", "never")
        theirs = matrix.session()
        for tokens in TOKENS:
            x = np.random.default_rng(tokens).standard_normal((tokens, columns), dtype=np.float32)
            expected = x.astype(np.float64) @ matrix.values().T
            assert error(ours, x, expected) < max(1.3 * error(theirs, x, expected), 1e-3), (rows, columns, tokens)


@needs_kernels
@pytest.mark.parametrize("zeros", [False, True], ids=["symmetric", "asymmetric"])
@pytest.mark.parametrize("block", [16, 32, 64, 128, 256])
@pytest.mark.parametrize("bits", [4, 8])
def test_a_product_does_not_depend_on_the_tokens_beside_it(bits, block, zeros):
    """To the bit: along rows and through tiles, integers are exact and floats are added in one order."""
    matrix = Matrix(bits, block, 48, 536, zeros=zeros)
    session = matrix.session()
    x = np.random.default_rng(1).standard_normal((29, 536), dtype=np.float32)
    together = multiply(session, x)
    for count in TOKENS:
        parts = [multiply(session, x[start : start + count]) for start in range(0, 29, count)]
        np.testing.assert_array_equal(np.concatenate(parts), together)
    np.testing.assert_array_equal(multiply(session, x[:, None]), together[:, None])
    assert multiply(session, x[:0]).shape == (0, 48)


@needs_kernels
@pytest.mark.parametrize(("bits", "zeros", "scale_bits"), [(4, False, 16), (4, True, 32), (8, True, 16)])
def test_moved_weights_give_the_same_bits(bits, zeros, scale_bits):
    matrix = Matrix(bits, 32, 70, 1000, zeros=zeros, scale_bits=scale_bits)
    session, other = matrix.session(), matrix.session()
    inputs = [np.random.default_rng(n).standard_normal((n, 1000), dtype=np.float32) for n in (1, 3, 20)]
    before = [multiply(session, x) for x in inputs]
    asked = []
    kernels.move_weights(session[1], Path("none"), lambda: not asked.append(session[1]))
    assert asked == [session[1]] * 2  # before the one matrix, and before there was none left
    for x, expected in zip(inputs, before, strict=True):
        np.testing.assert_array_equal(multiply(session, x), expected)
        np.testing.assert_array_equal(multiply(other, x), expected)


@needs_kernels
@pytest.mark.parametrize("lie", [{"N": 21}, {"N": 19}, {"K": 96}, {"bits": 4}, {"N": 0}, {"N": -5}, {"K": 2**40}])
def test_sizes_that_are_not_those_of_the_weights_are_refused(lie):
    with pytest.raises(Exception, match=r"MatMulNBits|ShapeInferenceError|narrowing"):
        Matrix(8, 32, 20, 64, zeros=True).session(**lie)


@needs_kernels
def test_what_the_kernels_do_not_take_is_left_to_onnxruntime():
    matrix, x = Matrix(8, 32, 20, 64, zeros=False), np.ones((2, 64), np.float32)
    session = matrix.session(accuracy_level=1)
    assert session[1] == 0
    np.testing.assert_allclose(multiply(session, x), x @ matrix.values().T, rtol=1e-5)


@needs_kernels
def test_sessions_that_close_while_others_are_moved(tmp_path):
    """Every session is opened, moved and closed by threads that know nothing of each other."""
    matrix = Matrix(8, 32, 256, 1024, zeros=False)
    x = np.random.default_rng(0).standard_normal((1, 1024), dtype=np.float32)
    expected = multiply(matrix.session(), x)

    def live(index: int) -> bool:
        session = matrix.session()
        if index % 2:
            kernels.move_weights(session[1], tmp_path)
        return np.array_equal(multiply(session, x), expected)

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(live, range(40)))


@needs_kernels
def test_tokens_of_zeros_and_of_no_numbers():
    matrix = Matrix(8, 32, 20, 64, zeros=False)
    session = matrix.session()
    assert not multiply(session, np.zeros((3, 64), np.float32)).any()
    for wrong in (np.inf, np.nan):
        x = np.ones((1, 64), np.float32)
        x[0, 40] = wrong
        assert np.isnan(multiply(session, x)).all()


@needs_kernels
def test_a_bias_that_onnxruntime_moves_into_the_product_is_added():
    matrix, bias = Matrix(8, 32, 20, 64, zeros=True), np.arange(20, dtype=np.float32)
    for tokens in (1, 20):
        x = np.random.default_rng(tokens).standard_normal((tokens, 64), dtype=np.float32)
        np.testing.assert_array_equal(multiply(matrix.session(bias), x), multiply(matrix.session(), x) + bias)


@needs_kernels
@pytest.mark.parametrize("precision", ["int8", "int4"])
def test_a_package_answers_alike_with_and_without(precision, tmp_path, monkeypatch):
    pytest.importorskip("torch")
    engine, _ = make_package(tmp_path, precision=precision)
    package, ids = engine.package.path, list(range(5, 60))
    logits = {}
    for when in ("auto", "never"):
        monkeypatch.setenv("ZOO_KERNELS", when)
        session = Session(package)
        logits[when] = np.concatenate(list(session.all_logits(session.new_cache(), ids)))
    spread = logits["never"].std()
    assert 0 < np.abs(logits["auto"] - logits["never"]).max() < 0.1 * spread


def test_the_environment_chooses(monkeypatch):
    monkeypatch.setenv("ZOO_KERNELS", "never")
    assert kernels.library() is None
    monkeypatch.setenv("ZOO_KERNELS", "sometimes")
    with pytest.raises(UsageError, match="ZOO_KERNELS is auto or never, not 'sometimes'"):
        kernels.library()


MAPS = """\
7f00-8f00 rw-p 00000000 fe:00 12 /packages/a b/model.onnx.data
Rss: 4 kB
Anonymous: 0 kB
Swap: 0 kB
9f00-af00 rw-p 00000000 fe:00 12 /packages/a b/model.onnx.data
Anonymous: 4 kB
Swap: 0 kB
9f00-af00 rw-p 00000000 fe:00 12 /packages/a b/model.onnx.data
Anonymous: 0 kB
Swap: 4 kB
bf00-cf00 rw-p 00000000 fe:00 13 /packages/\f\f/model.onnx.data
Anonymous: 0 kB
Swap: 0 kB
df00-ef00 rw-p 00000000 00:00 0
Anonymous: 0 kB
Swap: 0 kB
"""


def test_only_mapped_pages_of_the_file_that_are_as_on_disk_are_given_back():
    assert list(kernels.unchanged(MAPS, "/packages/a b/model.onnx.data")) == [(0x7F00, 0x8F00)]


@needs_kernels
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_pages_of_moved_weights_leave_the_process(tmp_path):
    pytest.importorskip("torch")
    engine, _ = make_package(tmp_path, precision="int8", hidden_size=512, intermediate_size=2048)
    data, ids = engine.package.path / "model.onnx.data", list(range(5, 40))

    def resident() -> int:
        parts = read_smaps().split(f"{data}\n")[1:]
        return sum(int(part.split("Rss:")[1].split()[0]) for part in parts)

    before = engine.logits(ids)
    mapped = resident()
    kernels.move_weights(engine.session.kernels, data)
    assert resident() < mapped / 2
    np.testing.assert_array_equal(engine.logits(ids), before)


def test_weights_larger_than_free_memory_stay_mapped(monkeypatch):
    started = []
    monkeypatch.setattr("threading.Thread.start", lambda thread: started.append(thread))
    monkeypatch.setattr("zoo.engine.huge_pages.free_memory", lambda: 2 * SMALLEST)
    session = SimpleNamespace(kernels=0)
    use_huge_pages(session, 2 * SMALLEST, Path("data"))
    use_huge_pages(session, SMALLEST - 1, Path("data"))
    assert not started
    use_huge_pages(session, SMALLEST, Path("data"))
    assert len(started) == 1


@needs_kernels
def test_the_library_is_a_plain_one():
    """It is registered by its path; nothing in it is imported by Python."""
    library = ctypes.CDLL(str(kernels.library()))
    assert library.zoo_kernels_supported() == 1
