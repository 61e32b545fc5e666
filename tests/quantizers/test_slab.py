"""Bits to numbers: exact for every value there is."""

from __future__ import annotations

import numpy as np
import pytest

from tests.builds import to_bf16
from zoo.errors import ZooError
from zoo.quantizers.slab import RawSlab, Scratch, widen_bf16, widen_f16

ALL = np.arange(65536, dtype=np.uint32).astype(np.uint16)


def test_every_finite_float16_widens_exactly():
    finite = ALL[np.isfinite(ALL.view(np.float16))]
    out = np.empty(finite.shape, np.float32)
    widen_f16(finite, out)
    assert np.array_equal(out.view(np.uint32), finite.view(np.float16).astype(np.float32).view(np.uint32))


def test_every_bfloat16_widens_exactly():
    out = np.empty(ALL.shape, np.float32)
    widen_bf16(ALL, out)
    assert np.array_equal(out.view(np.uint32), ALL.astype(np.uint32) << 16)


@pytest.mark.parametrize("dtype", ["F16", "BF16", "F32"])
@pytest.mark.parametrize("columns", [64, 50])
def test_blocks_have_the_extremes_that_numpy_finds(dtype, columns):
    rng = np.random.default_rng(3)
    values = (to_bf16(rng.standard_normal((7, columns))).astype(np.uint32) << 16).view(np.float32)
    values[2] = np.abs(values[2])
    values[3] = -np.abs(values[3])
    values[4] = 0
    values = values.astype(np.float16).astype(np.float32) if dtype == "F16" else values
    raw = {"F16": values.astype(np.float16), "BF16": to_bf16(values), "F32": values}[dtype]
    slab = RawSlab(raw, dtype, "t", Scratch())
    padded = np.zeros((7, -(-columns // 32) * 32), np.float32)
    padded[:, :columns] = values
    blocks = padded.reshape(7, -1, 32)
    low, high = slab.extremes(1, 6, 32)
    assert np.array_equal(low, np.minimum(blocks.min(-1), 0)[1:6])
    assert np.array_equal(high, np.maximum(blocks.max(-1), 0)[1:6])
    assert np.array_equal(slab.absmax(1, 6, 32), np.abs(blocks).max(-1)[1:6])
    assert np.array_equal(slab.float32(1, 6, padded.shape[1]), padded[1:6])
    for block in (16, 32, 128):
        wide = np.zeros((7, -(-columns // block) * block), np.float32)
        wide[:, :columns] = values
        cut = wide.reshape(7, -1, block)
        largest = np.take_along_axis(cut, np.abs(cut).argmax(-1)[..., None], -1)[..., 0]
        assert np.array_equal(np.abs(slab.extreme(1, 6, block)), np.abs(largest)[1:6])
        clear = np.abs(cut.min(-1)) != np.abs(cut.max(-1))
        assert np.array_equal(slab.extreme(0, 7, block)[clear], largest[clear])


@pytest.mark.parametrize("dtype", ["F16", "BF16", "F32"])
@pytest.mark.parametrize(("block", "largest"), [(32, 100), (64, 100), (16, 3e6)])
def test_each_value_times_the_factor_of_its_block_is_rounded_once(dtype, block, largest):
    rng = np.random.default_rng(5)
    values = rng.standard_normal((6, 200)).astype(np.float32)
    values[0] *= 1e-6  # subnormal float16
    raw = {"F16": values.astype(np.float16), "BF16": to_bf16(values), "F32": values}[dtype]
    slab = RawSlab(raw, dtype, "t", Scratch())
    exact = slab.float32(0, 6, 256).astype(np.float64)
    factors = (rng.uniform(-1, 1, (5, 256 // block)) * largest).astype(np.float32)
    for _ in range(2):  # the second time it is known that all is finite
        scaled = slab.scaled(1, 6, factors, block)
        assert scaled.shape == (5, 256 // block, block)
        expected = exact[1:].reshape(scaled.shape) * factors[..., None]
        assert np.array_equal(scaled, expected.astype(np.float32))
        slab.absmax(0, 6, block)


@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan, -np.nan])
@pytest.mark.parametrize("dtype", ["F16", "BF16", "F32"])
@pytest.mark.parametrize("method", ["float32", "float16", "absmax", "extreme", "extremes"])
def test_a_value_that_is_not_finite_is_refused_with_the_name(bad, dtype, method):
    values = np.ones((4, 32), np.float32)
    values[2, 5] = bad
    raw = {"F16": values.astype(np.float16), "BF16": to_bf16(values), "F32": values}[dtype]
    slab = RawSlab(raw, dtype, "model.bad.weight", Scratch())
    blocks = () if method.startswith("float") else (16,)
    getattr(slab, method)(0, 2, *blocks)
    with pytest.raises(ZooError, match=r"model\.bad\.weight.*NaN or infinite"):
        getattr(slab, method)(2, 4, *blocks)


def test_float16_of_a_wider_type_rounds_and_refuses_what_it_cannot_hold():
    values = np.array([[1e-9, 65519.0, -65519.0, 0.1]], np.float32)
    assert np.array_equal(RawSlab(values, "F32", "t", Scratch()).float16(0, 1), values.astype(np.float16))
    with pytest.raises(ZooError, match="65520"):
        RawSlab(np.array([[65520.0]], np.float32), "F32", "t", Scratch()).float16(0, 1)
